"""What this node's kernel should hold: adopted objects and local facts in, plain values out. Pure.

Everything here is hashable and compared by value: a reconciler's diff is a comparison of sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["PENDING", "OPEN"]


@dataclass(frozen=True)
class DatapathEndpoint:
    """One local endpoint for the eBPF programs on its veth.

    PENDING: sends and receives nothing but its own node's probes. OPEN: sends from `ipv4` and `ipv6` (empty: none of
    that family) and receives.
    """

    ifname: str
    state: State
    ipv4: str
    ipv6: str
    mac: str
    """The pod's hardware address, lower case with colons."""


@dataclass(frozen=True)
class Datapath:
    """Desired state of the eBPF subsystem."""

    endpoints: frozenset[DatapathEndpoint] = frozenset()
    node_addresses: tuple[str, ...] = ()
    """All addresses of this node that its own probes may come from and go to."""
