"""Classes of addresses: two addresses are of one class if no rule in use here tells them apart.

A class is known by its signature, which says everything that the rules may ask: of every selector whether someone who
has the address matches, of every net whether it holds the address, and what ports are named there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from tortie.api.compiled import CompiledRule, Peer
from tortie.nodeagent.policy.prefixes import Prefixes
from tortie.nodeagent.policy.stacks import destination_names, source_names
from tortie.policy.cluster import Address, Cluster, Endpoint, Network, NetworkSet, Owner, Party, network, selector
from tortie.policy.match import ANYBODY

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True)
class Signature:
    version: int
    selectors: frozenset[str] = frozenset()
    nets: frozenset[str] = frozenset()
    ports: frozenset[tuple[str, str, int, int]] = frozenset()
    """Selector (empty: anybody), name, protocol, number."""


@dataclass(frozen=True, eq=False)
class Cell(Party):
    """All addresses of a net that no longer net and no endpoint has."""

    nets: frozenset[str] = frozenset()
    """Those in use that hold it."""

    def within(self, net: str) -> bool:
        return net in self.nets


@dataclass
class Questions:
    """What the rules in use ask of addresses."""

    selectors: set[str] = field(default_factory=set)
    nets: set[str] = field(default_factory=set)
    ports: set[tuple[str, str]] = field(default_factory=set)
    """Selector of the peer (or empty) and name of a port."""

    @classmethod
    def of(cls, rules: Iterable[CompiledRule], cluster: Cluster) -> Questions:
        asked = cls()
        for rule in rules:
            for peers, names in ((rule.sources, source_names(rule)), (rule.destinations, destination_names(rule))):
                for peer in peers or ANYBODY:
                    asked._note(peer, names, cluster)
        return asked

    def _note(self, peer: Peer, names: Iterable[str], cluster: Cluster) -> None:
        self.selectors |= {text for text in (peer.selector, peer.not_selector) if text}
        self.nets |= {*peer.nets, *peer.not_nets}
        if peer.service:
            self.nets |= {net for backends in cluster.services.get(peer.service, ()) for net in backends.nets}
        self.ports |= {(peer.selector, name) for name in names}

    def signature(self, cell: Cell) -> Signature:
        ports = set()
        for text, name in self.ports:
            for owner in cell.matching(text) if text else cell.owners:
                ports |= {(text, name, p.protocol, p.port) for p in owner.ports if p.name == name}
        matching = frozenset(text for text in self.selectors if cell.owners and cell.matching(text))
        return Signature(cell.address.version, matching, cell.nets, frozenset(ports))


@dataclass(frozen=True)
class Addresses:
    """Signatures of every address that is known by itself, and of nets; None: a net whose addresses are unknown."""

    hosts: Mapping[Address, Signature]
    nets: Mapping[Network, Signature | None]
    parties: Mapping[Signature, Cell] = field(compare=False)
    """One for each class."""


def addresses(
    questions: Questions, cluster: Cluster, plain: Iterable[Address], blocks: Collection[Network]
) -> Addresses:
    """`plain`: addresses of nodes. `blocks`: of all nodes; an address in one is an endpoint's or unknown."""
    asked: Prefixes[str] = Prefixes()
    for text in questions.nets:
        asked[network(text)] = text
    sets = [each for each in cluster.sets if any(selector(text).matches(each.labels) for text in questions.selectors)]
    holders: Prefixes[list[NetworkSet]] = Prefixes()
    for each in sets:
        for net in each.nets:
            holders.setdefault(net, []).append(each)
    unknown: Prefixes[bool] = Prefixes()
    for block in blocks:
        unknown[block] = True
    owners: dict[Address, list[Endpoint]] = {address: [] for address in plain}
    for endpoint in cluster.endpoints:
        for address in endpoint.addresses:
            owners.setdefault(address, []).append(endpoint)

    parties: dict[Signature, Cell] = {}
    known: dict[tuple[frozenset[str], tuple[int, ...], int], Signature] = {}

    def signature(
        address: Address, endpoints: Iterable[Endpoint], within: Iterator[list[NetworkSet]], nets: frozenset[str]
    ) -> Signature:
        who: tuple[Owner, ...] = (*endpoints, *{id(each): each for some in within for each in some}.values())
        key = nets, tuple(map(_identity, who)), address.version
        if key not in known:
            cell = Cell(address, who, nets=nets)
            known[key] = questions.signature(cell)
            parties.setdefault(known[key], cell)
        return known[key]

    hosts = {
        address: signature(address, endpoints, holders.holding(address), frozenset(asked.holding(address)))
        for address, endpoints in owners.items()
    }
    cells: dict[Network, Signature | None] = {}
    for net in {*EVERYWHERE, *map(network, questions.nets), *(net for each in sets for net in each.nets), *blocks}:
        cells[net] = None
        if not next(unknown.covering(net), False):
            address, nets = net.network_address, frozenset(asked.covering(net))
            cells[net] = signature(address, (), holders.covering(net), nets)
    return Addresses(hosts, cells, parties)


def _identity(owner: Owner) -> int:
    """Of what matters of an owner: endpoints of one label set of one node share the mapping of their labels."""
    return hash((id(owner.labels), owner.ports))
