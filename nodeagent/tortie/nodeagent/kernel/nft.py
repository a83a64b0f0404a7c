"""The nftables table: source NAT, the own-host mark, and the stop for what no program has seen.

Mark of ownership: the table's name. It is replaced as a whole in one transaction, so that no packet meets half of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tortie.nodeagent.desired import Table
from tortie.nodeagent.kernel.reconcile import Failure, Message, Seen
from tortie.nodeagent.marks import OWN_HOST, SEEN

TABLE = "tortie"
PODS = '"cali*"'
NEIGHBOUR_DISCOVERY = "{ 130, 131, 132, 133, 134, 135, 136 }"
"""ICMPv6 types that Felix lets in from workloads whatever defaultEndpointToHostAction says."""


@dataclass(frozen=True)
class Replace:
    text: str

    def __str__(self) -> str:
        return f"table inet {TABLE}"


@dataclass
class Actual:
    fingerprint: str
    """Of what `nft list` says; empty: there is no such table."""


class NftReconciler:
    subsystem = "nft"

    def __init__(self) -> None:
        self._fingerprints: dict[str, str] = {}
        """Text that we applied → fingerprint of what it then looked like. Empty after a restart: replaced once."""

    async def read(self) -> Actual:
        return Actual(await listed())

    def observe(self, actual: Actual, message: Message) -> Seen:
        return Seen.STALE if message["event"] == "NFT" and message["table"] == TABLE else Seen.NOTHING

    def diff(self, desired: Table, actual: Actual) -> Sequence[Replace]:
        text = rendered(desired)
        if actual.fingerprint and actual.fingerprint == self._fingerprints.get(text):
            return ()
        return (Replace(text),)

    async def apply(self, batch: Sequence[Replace]) -> Sequence[Failure[Replace]]:
        for op in batch:
            code, _, complaint = await nft("-f", "-", program=op.text)
            if code:
                return [Failure(op, f"table/{TABLE}", complaint.strip())]
            self._fingerprints = {op.text: await listed()}
        return ()


async def nft(*arguments: str, program: str = "") -> tuple[int, str, str]:
    """Exit code, output and complaints of the nft command. Raises OSError when it cannot be run."""
    process = await asyncio.create_subprocess_exec(
        "nft",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate(program.encode())
    return process.returncode or 0, output.decode(), complaint.decode()


async def listed() -> str:
    """Fingerprint of our table as it is, without handles and counts; empty if there is none."""
    code, output, _ = await nft("-j", "list", "table", "inet", TABLE)
    if code:
        return ""
    objects = [o for o in json.loads(output)["nftables"] if "metainfo" not in o]
    return hashlib.sha256(json.dumps([stable(o) for o in objects], sort_keys=True).encode()).hexdigest()


def stable(value: Any) -> Any:
    """Without what changes by itself."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in ("handle", "packets", "bytes")}
    if isinstance(value, list):
        return [stable(v) for v in value]
    return value


def rendered(table: Table) -> str:
    """The transaction that makes the table what it should be, whether or not there is one."""
    return "\n".join(
        [
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            *sets("pods", table.pods),
            *sets("nat_sources", table.nat_sources),
            *sets("nat_exclusions", table.nat_exclusions),
            "chain prerouting {",
            "type filter hook prerouting priority raw; policy accept;",
            # What passed from_pod is marked; without the filter nothing would be checked.
            f"iifname {PODS} meta mark & {SEEN:#010x} == 0 counter drop",
            "}",
            *(to_host() if table.drop_to_host else ()),
            "chain output {",
            # After kube-proxy's translation (-100), and by destination: the output device is not updated by it.
            "type filter hook output priority filter; policy accept;",
            f"ip daddr @pods4 meta mark set meta mark | {OWN_HOST:#010x}",
            f"ip6 daddr @pods6 meta mark set meta mark | {OWN_HOST:#010x}",
            "}",
            "chain postrouting {",
            "type nat hook postrouting priority srcnat; policy accept;",
            *source_nat(table),
            "}",
            "}",
            "",
        ]
    )


def sets(name: str, cidrs: Sequence[str]) -> list[str]:
    """One interval set per family."""
    found = []
    for suffix, kind, six in (("4", "ipv4_addr", False), ("6", "ipv6_addr", True)):
        members = ", ".join(cidr for cidr in cidrs if (":" in cidr) == six)
        elements = f" elements = {{ {members} }};" if members else ""
        found.append(f"set {name}{suffix} {{ type {kind}; flags interval;{elements} }}")
    return found


def to_host() -> list[str]:
    """defaultEndpointToHostAction Drop: pods may answer this host, not call it."""
    return [
        "chain input {",
        "type filter hook input priority filter; policy accept;",
        f"iifname {PODS} ct state established,related accept",
        f"iifname {PODS} icmpv6 type {NEIGHBOUR_DISCOVERY} accept",
        f"iifname {PODS} counter drop",
        "}",
    ]


def source_nat(table: Table) -> list[str]:
    """natOutgoing: what leaves a pool for somewhere that is no pool takes this node's address (or the one chosen)."""
    rules = []
    for suffix, header, address in (("4", "ip", table.nat_address), ("6", "ip6", "")):
        match = f"oifname != {PODS} {header} saddr @nat_sources{suffix} {header} daddr != @nat_exclusions{suffix}"
        action = f"snat {header} to {address}" if address else "masquerade"
        if table.nat_ports:
            to = f"snat {header} to {address}:{table.nat_ports}" if address else f"masquerade to :{table.nat_ports}"
            rules.append(f"{match} meta l4proto {{ tcp, udp }} {to} fully-random")
        rules.append(f"{match} {action} fully-random")
    return rules
