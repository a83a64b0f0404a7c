"""Packet marks, all inside nftablesMarkMask; the same numbers as nodeagent/bpf/marks.h, which a test compares."""

MASK = 0xFFFF0000
SEEN = 0x00010000
"""Set by from_pod on what it let pass: nftables drops what enters from `cali*` without it."""
OWN_HOST = 0x00020000
"""Set by our output hook on what this host itself sends to pods."""
JUDGED = 0x00040000
"""Reserved: the sender's hook has taken over ingress policy."""
