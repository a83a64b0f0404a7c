"""What is in a packet's way, as a table: for every pair of ends the endpoints that it crosses, and what counts
there."""

from __future__ import annotations

from dataclasses import dataclass

from .objects import NODES, Json
from .oracle import World
from .things import Thing
from .universe import FROM, KINDS, OF, PACKETS, TO, Kind, family

Gate = tuple[str, str, tuple[str, ...]]
"""Which endpoint (`*`, `wire` or `pod`) of the side's node, direction, hooks in order."""

SENT: Gate = ("*", "Ingress", ("preDNAT", "forward"))
LEAVES: Gate = ("wire", "Egress", ("forward",))
ENTERS: Gate = ("wire", "Ingress", ("untracked", "preDNAT", "forward"))
REACHES: Gate = ("wire", "Ingress", ("untracked", "preDNAT", "normal"))
STARTS: Gate = ("wire", "Egress", ("untracked", "normal"))
DELIVERED: Gate = ("*", "Egress", ("forward",))
POD_OUT: Gate = ("pod", "Egress", ("workload",))
POD_IN: Gate = ("pod", "Ingress", ("workload",))
TO_HOST: Gate = ("to-host", "", ())
OWN_HOST: Gate = ("*", "Ingress", ("preDNAT", "normal if Return"))

ROUTES: dict[tuple[str, str, bool], tuple[list[Gate], list[Gate]]] = {
    # from, to, on the same node: egress side, ingress side
    ("pod", "pod", True): ([SENT, POD_OUT], [DELIVERED, POD_IN]),
    ("pod", "pod", False): ([SENT, POD_OUT, LEAVES], [ENTERS, DELIVERED, POD_IN]),
    ("pod", "host", True): ([POD_OUT, TO_HOST], [OWN_HOST]),
    ("pod", "host", False): ([SENT, POD_OUT, LEAVES], [REACHES]),
    ("pod", "outside", False): ([SENT, POD_OUT, LEAVES], []),
    ("host", "pod", True): ([], []),
    ("host", "pod", False): ([STARTS], [ENTERS, DELIVERED, POD_IN]),
    ("host", "host", True): ([], []),
    ("host", "host", False): ([STARTS], [REACHES]),
    ("host", "outside", False): ([STARTS], []),
    ("outside", "pod", False): ([], [ENTERS, DELIVERED, POD_IN]),
    ("outside", "host", False): ([], [REACHES]),
}

FAILSAFE_IN = {(6, p) for p in (22, 179, 2379, 2380, 5473, 6443, 6666, 6667)} | {(17, 68)}
FAILSAFE_OUT = {(6, p) for p in (179, 2379, 2380, 5473, 6443, 6666, 6667)} | {(17, 53), (17, 67)}


@dataclass
class End:
    kind: str
    reference: str
    addresses: list[str]
    node: str = ""
    pod: Thing | None = None


def ends(world: World) -> list[End]:
    pods = [
        End("pod", f"pod:{thing.name}", thing.nets, world.of("Pod")[index]["spec"]["nodeName"], thing)
        for index, thing in enumerate(thing for thing in world.things if thing.kind == "Pod")
    ]
    hosts = [End("host", f"host:{name}", addresses, name) for name, addresses in NODES.items()]
    outside = [End("outside", f"ip:{address}", [address]) for address in ("203.0.113.1", "2001:db8:9::9")]
    return pods + hosts + outside


def addresses(source: End, target: End) -> tuple[str, str] | None:
    for version in (4, 6):
        ours = [address for address in source.addresses if family(address) == version]
        theirs = [address for address in target.addresses if family(address) == version]
        if ours and theirs:
            return ours[0], theirs[0]
    return None


def bit(source: str, target: str, kind: Kind) -> int:
    return FROM[source] & TO[target] & OF[kind]


class Judge:
    def __init__(self, world: World) -> None:
        self.world = world
        found = world.of("FelixConfiguration")
        self.configuration: Json = found[0]["spec"] if found else {}
        self.to_host = self.configuration.get("defaultEndpointToHostAction", "Accept")
        self.hosts: dict[str, dict[str, Thing]] = {name: {} for name in NODES}
        for document in world.of("HostEndpoint"):
            name, spec = document["metadata"]["name"], document["spec"]
            thing = next(t for t in world.things if t.kind == "HostEndpoint" and t.name == name)
            self.hosts[spec["node"]][spec.get("interfaceName", "")] = thing

    def every(self, node: str) -> Thing | None:
        return self.hosts.get(node, {}).get("*")

    def wire(self, node: str) -> Thing | None:
        """One without interface always expects the node's addresses; eth0 does or does not say."""
        found = self.hosts.get(node, {})
        return found.get("") or found.get("eth0") or found.get("*")

    def lets_pass(self, gate: Gate, end: End, original: int, packet: int) -> bool:
        which, direction, hooks = gate
        if which == "to-host":
            return bool(self.to_host != "Drop")
        if which == "pod":
            assert end.pod is not None
            return bool(self.world.passes(end.pod, direction, "workload") & packet)
        thing = self.every(end.node) if which == "*" else self.wire(end.node)
        if thing is None:
            return True
        if hooks[-1] == "normal if Return":
            hooks = ("preDNAT", "normal") if self.to_host == "Return" else ("preDNAT",)
        if "normal" in hooks and self.is_failsafe(direction, packet):
            return True
        for hook in hooks:
            seen = original if hook in ("untracked", "preDNAT") else packet
            if hook == "normal":
                return bool(self.world.passes(thing, direction, hook) & seen)
            allowed, denied = self.world.decided(thing, direction, hook)
            if (allowed | denied) & seen:
                return bool(allowed & seen)
        return True

    def is_failsafe(self, direction: str, packet: int) -> bool:
        source, _, kind = PACKETS[packet.bit_length() - 1]
        port = (kind.protocol, kind.dport)
        if direction == "Egress":
            outbound = "failsafeOutboundHostPorts" in self.configuration
            return port == (17, 53) if outbound else port in FAILSAFE_OUT
        if "failsafeInboundHostPorts" in self.configuration:
            return port == (6, 443) and source.startswith("203.0.113.")
        return port in FAILSAFE_IN

    def verdicts(self, source: End, target: End, kind: Kind) -> tuple[bool, bool]:
        """Of the egress and the ingress side."""
        pair = addresses(source, target)
        if pair is None:
            raise ValueError("no address in common")
        if source is target or (source.kind, target.kind) == ("outside", "outside"):
            return True, True
        packet = bit(*pair, kind)
        egress, ingress = ROUTES[source.kind, target.kind, source.node == target.node]
        return (
            all(self.lets_pass(gate, source, packet, packet) for gate in egress),
            all(self.lets_pass(gate, target, packet, packet) for gate in ingress),
        )

    def translated(self, source: End, front: End, target: End, before: Kind, after: Kind) -> tuple[bool, bool]:
        """From a pod, or from outside through the host `front`, to an address of the pod `target`."""
        pair, behind = addresses(source, front), addresses(source, target)
        if pair is None or behind is None or family(pair[0]) != family(behind[0]):
            raise ValueError("no address in common")
        if source is target:
            return True, True
        original, packet = bit(*pair, before), bit(*behind, after)
        egress, ingress = ROUTES[source.kind, target.kind, source.node == target.node]
        sends = all(self.lets_pass(gate, source, original, packet) for gate in egress)
        if source.kind == "pod":
            return sends, all(self.lets_pass(gate, target, packet, packet) for gate in ingress)
        if front.node == target.node:
            return sends, all(self.lets_pass(gate, target, original, packet) for gate in ingress)
        through = all(self.lets_pass(gate, front, original, packet) for gate in (ENTERS, LEAVES))
        return sends, through and all(self.lets_pass(gate, target, packet, packet) for gate in ingress)


FLOW_KINDS = [kind for kind in KINDS if kind.protocol in (6, 17, 1, 47)]
