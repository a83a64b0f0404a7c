"""eBPF from this side: the only room that knows bcc and libbpf."""
