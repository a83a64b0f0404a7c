"""The stack of an endpoint in one direction: everything that may decide about a packet, in order.

A stack is a list of steps, as `tortie.policy.judge` takes them: rules of the tiers' policies, ends of tiers, rules of
profiles, and the end of these. A step becomes adjacent atoms, one for each way in which its ports resolve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from tortie.api.compiled import Backends, CompiledPolicySpec, CompiledRule, Peer
from tortie.nodeagent.policy import kinds
from tortie.nodeagent.policy.kinds import ALL, KindSet
from tortie.policy.cluster import KIND_NAMES, WORKLOAD, Cluster, Endpoint, Party
from tortie.policy.convert import profile_name
from tortie.policy.judge import DENY, END_OF_TIER, NO_PROFILE_MATCH, PASS, Step
from tortie.policy.match import ANYBODY, ANYTHING, is_at

ALWAYS = CompiledRule(action="", id="")
"""Matches everything."""


@dataclass(frozen=True)
class Entry:
    """A step of a stack: what matches, and what people are told when it does."""

    step: Step
    rule: CompiledRule
    id: str
    """16 hex digits: what counters go by."""
    tier: int
    """Counted from 0; profiles are the last."""


def entries(cluster: Cluster, endpoint: Endpoint, direction: str) -> tuple[Entry, ...]:
    """Raises nothing: a profile that is not there denies, as an empty list of profiles does."""
    tiers = cluster.applicable(endpoint, direction, WORKLOAD)
    found: list[Entry] = []
    for number, policies in enumerate(tiers):
        for policy in policies:
            found += _rules(policy, direction, number)
        tier = cluster.tiers.get(policies[0].tier)
        default = PASS if tier is not None and tier.default_action == PASS else DENY
        found.append(_always(_step(policies[-1], END_OF_TIER, default), direction, number))
    for name in endpoint.profiles:
        profile = cluster.profiles.get(name)
        if profile is None:
            step = Step(kind="Profile", name=name, rule=NO_PROFILE_MATCH, action=DENY)
            return (*found, _always(step, direction, len(tiers)))
        found += _profile(profile, direction, len(tiers))
    last = Step(kind="Profile", rule=NO_PROFILE_MATCH, action=DENY)
    return (*found, _always(last, direction, len(tiers)))


def _step(policy: CompiledPolicySpec, rule: int | str, action: str) -> Step:
    source = policy.source
    kind = KIND_NAMES[source.kind]
    return Step(tier=policy.tier, kind=kind, namespace=source.namespace, name=source.name, rule=rule, action=action)


def _always(step: Step, direction: str, tier: int) -> Entry:
    text = "/".join((direction, step.tier, step.kind, step.namespace, step.name, str(step.rule)))
    return Entry(step, ALWAYS, sha256(text.encode()).hexdigest()[:16], tier)


def _of(policy: CompiledPolicySpec, direction: str) -> Sequence[CompiledRule]:
    return policy.ingress if direction == "Ingress" else policy.egress


def _rules(policy: CompiledPolicySpec, direction: str, tier: int) -> Iterator[Entry]:
    for index, rule in enumerate(_of(policy, direction)):
        yield Entry(_step(policy, index, rule.action), rule, rule.id, tier)


def _profile(profile: CompiledPolicySpec, direction: str, tier: int) -> Iterator[Entry]:
    for index, rule in enumerate(_of(profile, direction)):
        action = DENY if rule.action == PASS else rule.action
        step = Step(kind="Profile", name=profile_name(profile.source), rule=index, action=action)
        yield Entry(step, rule, rule.id, tier)


@dataclass(frozen=True)
class End:
    """What one side of an atom asks of an address: to be at one of the peers, and, if ports resolve by address, that
    they resolve to `kinds`."""

    peers: tuple[Peer, ...]
    version: int = 0
    rule: CompiledRule | None = None
    """Of ports that resolve by address."""
    kinds: KindSet | None = None
    backends: tuple[Backends, ...] = ()
    """Of the services that the peers name: an end means the same for as long as it is equal."""


@dataclass(frozen=True)
class Atom:
    entry: Entry
    source: End | None
    """None: anybody."""
    destination: End | None
    kinds: KindSet = ALL
    source_kinds: KindSet = ALL


def names(texts: Iterable[str]) -> set[str]:
    return {text for text in texts if kinds.is_name(text)}


def destination_names(rule: CompiledRule) -> set[str]:
    return names(port for traffic in rule.traffic for port in traffic.ports) | names(rule.not_ports)


def source_names(rule: CompiledRule) -> set[str]:
    return names(rule.source_ports) | names(rule.not_source_ports)


def atoms(entry: Entry, parties: Iterable[Party], cluster: Cluster) -> list[Atom]:
    """`parties`: one of each class; only needed where ports resolve by address."""
    rule = entry.rule
    if rule.void:
        return []
    sources: list[tuple[End | None, KindSet]]
    destinations: list[tuple[End | None, KindSet]]
    parties = list(parties)
    if source_names(rule):
        resolved = {source_kinds(rule, rule.sources or ANYBODY, each, cluster) for each in parties} - {kinds.NONE}
        sources = [
            (End(rule.sources or ANYBODY, 0, rule, each, _backends(rule.sources, cluster)), each)
            for each in sorted(resolved, key=repr)
        ]
    else:
        end = End(rule.sources, backends=_backends(rule.sources, cluster)) if rule.sources else None
        sources = [(end, _source_ports(rule, ()))]
    version = rule.ip_version
    if destination_names(rule) or any(peer.service for peer in rule.destinations):
        resolved = {destination_kinds(rule, rule.destinations or ANYBODY, each, cluster) for each in parties}
        resolved -= {kinds.NONE}
        destinations = [
            (
                End(rule.destinations or ANYBODY, version, rule, each, _backends(rule.destinations, cluster)),
                each & _others(rule),
            )
            for each in sorted(resolved, key=repr)
        ]
    else:
        end = End(rule.destinations, version) if rule.destinations or version else None
        destinations = [(end, _traffic(rule, ()) & _others(rule))]
    return [
        Atom(entry, source, destination, traffic, ports)
        for source, ports in sources
        for destination, traffic in destinations
        if traffic and ports
    ]


def holds(end: End, party: Party, cluster: Cluster, *, source: bool) -> bool:
    if end.version and end.version != party.address.version:
        return False
    if end.rule is not None:
        resolve = source_kinds if source else destination_kinds
        return resolve(end.rule, end.peers, party, cluster) == end.kinds
    if not end.peers:
        return True
    return any(is_at(peer, party) and (not peer.service or _serves(peer, party, cluster)) for peer in end.peers)


def _backends(peers: Iterable[Peer], cluster: Cluster) -> tuple[Backends, ...]:
    return tuple(each for peer in peers if peer.service for each in cluster.services.get(peer.service, ()))


def _serves(peer: Peer, party: Party, cluster: Cluster) -> bool:
    return any(party.within(net) for backends in cluster.services.get(peer.service, ()) for net in backends.nets)


def source_kinds(rule: CompiledRule, peers: Iterable[Peer], party: Party, cluster: Cluster) -> KindSet:
    """Source ports with which a rule may match at an address."""
    found = kinds.NONE
    for peer in peers:
        if is_at(peer, party) and (not peer.service or _serves(peer, party, cluster)):
            found |= _source_ports(rule, _named(peer, party))
    return found


def destination_kinds(rule: CompiledRule, peers: Iterable[Peer], party: Party, cluster: Cluster) -> KindSet:
    """Protocols and ports with which a rule may match at an address."""
    found = kinds.NONE
    for peer in peers:
        if is_at(peer, party):
            traffic = _traffic(rule, _named(peer, party))
            found |= traffic & _served(peer, party, cluster) if peer.service else traffic
    return found


Name = tuple[str, int, int]
"""Name, protocol and number of a port."""


def _named(peer: Peer, party: Party) -> tuple[Name, ...]:
    owners = party.matching(peer.selector) if peer.selector else party.owners
    return tuple((port.name, port.protocol, port.port) for owner in owners for port in owner.ports)


def _ports(texts: Sequence[str], named: Iterable[Name]) -> KindSet:
    return kinds.of_ports(texts, [(protocol, port) for name, protocol, port in named if name in texts])


def _source_ports(rule: CompiledRule, named: Iterable[Name]) -> KindSet:
    wanted = _ports(rule.source_ports, named) if rule.source_ports else ALL
    return wanted - _ports(rule.not_source_ports, named)


def _traffic(rule: CompiledRule, named: Iterable[Name]) -> KindSet:
    found = kinds.NONE
    for traffic in rule.traffic or ANYTHING:
        each = kinds.of_protocol(traffic.protocol) if traffic.protocol else ALL
        found |= each & _ports(traffic.ports, named) if traffic.ports else each
    return found - _ports(rule.not_ports, named)


def _served(peer: Peer, party: Party, cluster: Cluster) -> KindSet:
    found = kinds.NONE
    for backends in cluster.services.get(peer.service, ()):
        if any(party.within(net) for net in backends.nets):
            served = (text.partition(":") for text in backends.ports)
            found |= kinds.of_ports((), [(int(protocol), int(port)) for protocol, _, port in served])
    return found


def _others(rule: CompiledRule) -> KindSet:
    """What a rule says of protocol and ICMP besides its traffic."""
    found = ALL
    if rule.not_protocol:
        found -= kinds.of_protocol(rule.not_protocol)
    if rule.icmp:
        found &= kinds.of_icmp(rule.icmp)
    if rule.not_icmp:
        found -= kinds.of_icmp(rule.not_icmp)
    return found
