"""Programs at a device's tc hooks, as direct-action filters of its clsact qdisc.

Mark of ownership: handle and priority. Priority 1 runs before whatever others attach; our programs return
TC_ACT_UNSPEC, so that the others still run. A filter is replaced in place, in one step (cls_bpf): each packet meets the
old program or the new one. The qdisc is made if there is none and never removed: it may serve others.

Why not tcx links, see docs/design/attachment.md.
"""

from __future__ import annotations

import ctypes as ct
import errno

from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.maps.libbpf import TcHook, TcOptions, attempt, call, lib

HANDLE, PRIORITY = 0x746F7274, 1
"""`tort`"""
INGRESS, EGRESS = 1, 2
"""enum bpf_tc_attach_point"""
POINTS = {FROM_POD: INGRESS, TO_POD: EGRESS}
"""Program → where it runs at the host end of a veth: what the pod sends comes in there."""
REPLACE = 1
"""BPF_TC_F_REPLACE"""


def attached(ifindex: int, program: str) -> int:
    """Id of the program in our filter there; 0: no filter, no qdisc, no device."""
    hook, options = _hook(ifindex, POINTS[program]), _options()
    result = attempt(lib.bpf_tc_query, ct.byref(hook), ct.byref(options))
    if result in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        return 0
    if result < 0:
        raise OSError(-result, f"asking for the filter of device {ifindex}")
    return int(options.prog_id)


def guarded(ifindex: int) -> bool:
    """Both programs see what the device carries."""
    return all(attached(ifindex, program) for program in POINTS)


def attach(ifindex: int, program: str, fd: int) -> None:
    """Make our filter there run the program `fd`, whatever it ran before. Raises OSError."""
    both = _hook(ifindex, INGRESS | EGRESS)
    attempt(lib.bpf_tc_hook_create, ct.byref(both))  # mostly "exists"; what is wrong shows below
    hook, options = _hook(ifindex, POINTS[program]), _options()
    options.prog_fd, options.flags = fd, REPLACE
    call(f"attaching {program}", lib.bpf_tc_attach, ct.byref(hook), ct.byref(options))


def _hook(ifindex: int, point: int) -> TcHook:
    return TcHook(ct.sizeof(TcHook), ifindex, point, 0)


def _options() -> TcOptions:
    return TcOptions(ct.sizeof(TcOptions), handle=HANDLE, priority=PRIORITY)
