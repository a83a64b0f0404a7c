"""What a program does with a packet, without sending one (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes as ct
import struct
from dataclasses import dataclass

from tortie.nodeagent.maps.libbpf import TestRunOptions, call, lib

MARK, IFINDEX, SCRATCH = 8, 40, 48
"""Offsets in struct __sk_buff."""
CONTEXT = 44
"""Bytes of it that we set; the kernel takes the rest as zero."""
ROOM = 256
"""Bytes by which a packet, or a kernel's __sk_buff, may be larger afterwards."""


@dataclass(frozen=True)
class Result:
    verdict: int
    """TC_ACT_*; TC_ACT_UNSPEC is -1."""
    packet: bytes
    mark: int
    rule: int
    """Of policy, if it was asked: index into the map `rules` of the rule that decided (skb->cb[0])."""
    nanoseconds: int
    """On average over the repeats."""


def run(fd: int, packet: bytes, *, ifindex: int, mark: int = 0, repeat: int = 1) -> Result:
    """One Ethernet frame (≥ 14 bytes) at the hook of a device of this network namespace. Raises OSError."""
    context, after = ct.create_string_buffer(CONTEXT), ct.create_string_buffer(ROOM)
    struct.pack_into("=I", context, MARK, mark)
    struct.pack_into("=I", context, IFINDEX, ifindex)
    out = ct.create_string_buffer(len(packet) + ROOM)
    options = TestRunOptions(
        sz=ct.sizeof(TestRunOptions),
        data_in=ct.cast(ct.c_char_p(packet), ct.c_void_p),
        data_out=ct.cast(out, ct.c_void_p),
        data_size_in=len(packet),
        data_size_out=len(out),
        ctx_in=ct.cast(context, ct.c_void_p),
        ctx_out=ct.cast(after, ct.c_void_p),
        ctx_size_in=len(context),
        ctx_size_out=len(after),
        repeat=repeat,
    )
    call("running a program", lib.bpf_prog_test_run_opts, fd, ct.byref(options))
    (verdict,) = struct.unpack("=i", struct.pack("=I", options.retval))
    (marked,) = struct.unpack_from("=I", after, MARK)
    (rule,) = struct.unpack_from("=I", after, SCRATCH)
    return Result(verdict, out.raw[: options.data_size_out], marked, rule, options.duration)
