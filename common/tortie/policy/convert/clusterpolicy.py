"""ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) → the normal form."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tortie.api import protocols
from tortie.api.compiled import CompiledPolicySpec, CompiledRule, Peer, Traffic
from tortie.api.networking import (
    ClusterEgressRule,
    ClusterIngressRule,
    ClusterNetworkPolicy,
    ClusterPeer,
    ClusterProtocol,
    PortMatch,
    Subject,
)
from tortie.api.policies import ADMIN_TIER, BASELINE_TIER
from tortie.api.protocols import Span
from tortie.api.selector import Expression
from tortie.policy.convert import selectors
from tortie.policy.convert.calico import DIRECTIONS
from tortie.policy.convert.fields import in_order
from tortie.policy.convert.identity import identified, source_of
from tortie.policy.convert.kubernetes import cidr_of, namespaces
from tortie.policy.convert.problems import Conversion, Findings
from tortie.policy.convert.rules import failed

TIERS = {"Admin": ADMIN_TIER, "Baseline": BASELINE_TIER}
ACTIONS = {"Accept": "Allow", "Deny": "Deny", "Pass": "Pass"}


def policy(user: ClusterNetworkPolicy) -> Conversion:
    findings = Findings()
    spec = user.spec
    source = source_of("cnp", user.metadata)
    if spec.tier not in TIERS:
        findings.error("spec.tier", spec.tier, f"must be one of {', '.join(TIERS)}")
    subject = _pods(spec.subject, "spec.subject", findings)
    provisional = bool(findings.errors)
    ingress = [_rule(rule, "Ingress", f"spec.ingress[{i}]", findings) for i, rule in enumerate(spec.ingress)]
    egress = [_rule(rule, "Egress", f"spec.egress[{i}]", findings) for i, rule in enumerate(spec.egress)]
    compiled = CompiledPolicySpec(
        source=source,
        tier=TIERS.get(spec.tier, ADMIN_TIER),
        order=float(spec.priority),
        selector=selectors.fallback("") if provisional else selectors.canonical(subject),
        types=tuple(each for each, rules in zip(DIRECTIONS, (ingress, egress), strict=True) if rules),
        ingress=identified(source, "Ingress", ingress),
        egress=identified(source, "Egress", egress),
    )
    return Conversion(compiled, tuple(findings.errors), provisional=provisional)


def _pods(peer: Subject | ClusterPeer, here: str, findings: Findings) -> list[Expression]:
    """The pods of `namespaces` or `pods`, of which exactly one must be."""
    if (peer.namespaces is None) == (peer.pods is None):
        findings.error(here, peer, "needs exactly one of namespaces and pods")
        return []
    if peer.namespaces is not None:
        return [*namespaces(peer.namespaces, f"{here}.namespaces", findings), selectors.KUBERNETES]
    if peer.pods is None:
        return []
    return [
        *namespaces(peer.pods.namespace_selector, f"{here}.pods.namespaceSelector", findings),
        selectors.KUBERNETES,
        *selectors.labels(peer.pods.pod_selector, "", f"{here}.pods.podSelector", findings),
    ]


def _rule(user: ClusterIngressRule | ClusterEgressRule, direction: str, here: str, findings: Findings) -> CompiledRule:
    before = len(findings.errors)
    action = ACTIONS.get(user.action, "")
    if not action:
        findings.error(f"{here}.action", user.action, f"must be one of {', '.join(ACTIONS)}")
    field = f"{here}.{'from' if direction == 'Ingress' else 'to'}"
    if not user.peers:
        findings.error(field, [], "needs at least one peer")
    peers = tuple(_peer(peer, direction, f"{field}[{index}]", findings) for index, peer in enumerate(user.peers))
    traffic = _traffic(user.protocols, f"{here}.protocols", findings)
    if any(peer.networks for peer in user.peers) and any(each.destination_named_port for each in user.protocols):
        findings.error(f"{here}.protocols", "destinationNamedPort", "networks have no named ports")
    if len(findings.errors) > before:
        return failed(action)
    rule = CompiledRule(action=action, id="", traffic=traffic)
    peers = tuple(dict.fromkeys(peers))
    if direction == "Ingress":
        return msgspec.structs.replace(rule, sources=peers)
    return msgspec.structs.replace(rule, destinations=peers)


def _peer(peer: ClusterPeer, direction: str, here: str, findings: Findings) -> Peer:
    for name, value in (("nodes", peer.nodes), ("domainNames", peer.domain_names)):
        if value:
            findings.error(f"{here}.{name}", value, "is not supported")
            return Peer()
    if peer.networks and direction == "Egress" and peer.namespaces is None and peer.pods is None:
        return Peer(nets=in_order(cidr_of(n, f"{here}.networks[{i}]", findings) for i, n in enumerate(peer.networks)))
    if peer.networks:
        findings.error(f"{here}.networks", peer.networks, "stands alone, and in egress rules only")
        return Peer()
    return Peer(selector=selectors.canonical(_pods(peer, here, findings) or [selectors.EVERYTHING]))


def _traffic(entries: Sequence[ClusterProtocol], here: str, findings: Findings) -> tuple[Traffic, ...]:
    """By protocol in the order of their numbers; named ports, which are of any protocol, first."""
    spans: dict[int, list[Span | str]] = {}
    whole: set[int] = set()
    for index, entry in enumerate(entries):
        given = {"TCP": entry.tcp, "UDP": entry.udp, "SCTP": entry.sctp}
        present = {protocols.NUMBERS[name]: ports for name, ports in given.items() if ports is not None}
        if len(present) + bool(entry.destination_named_port) != 1:
            findings.error(f"{here}[{index}]", entry, "needs exactly one of tcp, udp, sctp and destinationNamedPort")
        if entry.destination_named_port:
            spans.setdefault(0, []).append(entry.destination_named_port)
        for number, ports in present.items():
            spans.setdefault(number, [])
            if ports.destination_port is None:
                whole.add(number)
                continue
            span = _span(ports.destination_port, f"{here}[{index}].{_field(number)}.destinationPort", findings)
            if span is not None:
                spans[number].append(span)
    return tuple(
        Traffic(protocol=number, ports=() if number in whole else protocols.canonical_ports(spans[number]))
        for number in sorted(spans)
    )


def _field(number: int) -> str:
    return protocols.protocol_name(number).lower()


def _span(port: PortMatch, here: str, findings: Findings) -> Span | None:
    first, last = (port.range.start, port.range.end) if port.range else (port.number, port.number)
    if (port.number != 0) == (port.range is not None) or not 1 <= first <= last <= 65535:
        findings.error(here, port, "needs either a number or a range, from 1 to 65535 and ascending")
        return None
    return first, last
