"""Kubernetes' NetworkPolicy, and Calico's staged kind of it → the normal form."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from tortie.api import protocols
from tortie.api.compiled import CompiledPolicySpec, CompiledRule, Peer, Traffic
from tortie.api.networking import IPBlock, LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from tortie.api.policies import DEFAULT_TIER, StagedKubernetesNetworkPolicy, StagedKubernetesNetworkPolicySpec
from tortie.api.protocols import Span
from tortie.api.selector import Expression
from tortie.policy.convert import selectors
from tortie.policy.convert.calico import DIRECTIONS, staged
from tortie.policy.convert.fields import in_order, masked
from tortie.policy.convert.identity import identified, source_of
from tortie.policy.convert.problems import Conversion, Findings
from tortie.policy.convert.rules import failed
from tortie.policy.labels import NAMESPACE_PREFIX

ORDER = 1000.0
PROTOCOLS = ("TCP", "UDP", "SCTP")


def policy(user: NetworkPolicy | StagedKubernetesNetworkPolicy) -> Conversion:
    findings = Findings()
    spec, namespace = user.spec, user.metadata.namespace
    source = source_of("knp" if isinstance(user, NetworkPolicy) else "sknp", user.metadata)
    chosen = selectors.labels(spec.pod_selector, "", "spec.podSelector", findings)
    provisional = bool(findings.errors)
    pods: list[Expression] = [selectors.own_namespace(namespace), selectors.KUBERNETES, *chosen]
    ingress = [
        _rule("source", rule.peers, rule.ports, namespace, f"spec.ingress[{index}]", findings)
        for index, rule in enumerate(spec.ingress)
    ]
    egress = [
        _rule("destination", rule.peers, rule.ports, namespace, f"spec.egress[{index}]", findings)
        for index, rule in enumerate(spec.egress)
    ]
    action = ""
    if isinstance(spec, StagedKubernetesNetworkPolicySpec):
        action = staged(spec, StagedKubernetesNetworkPolicySpec(staged_action="Delete"), findings)
    compiled = CompiledPolicySpec(
        source=source,
        tier=DEFAULT_TIER,
        order=ORDER,
        selector=selectors.fallback(namespace) if provisional else selectors.canonical(pods),
        types=_types(spec.policy_types, bool(spec.egress), findings),
        staged=action,
        ingress=identified(source, "Ingress", ingress),
        egress=identified(source, "Egress", egress),
    )
    return Conversion(compiled, tuple(findings.errors), provisional=provisional)


def _types(given: Sequence[str], egress: bool, findings: Findings) -> tuple[str, ...]:
    """Without any given as the API server defaults them: Ingress, and Egress if there are egress rules."""
    for index, each in enumerate(given):
        if each not in DIRECTIONS:
            findings.error(f"spec.policyTypes[{index}]", each, f"must be one of {', '.join(DIRECTIONS)}")
            return DIRECTIONS
    if given:
        return tuple(each for each in DIRECTIONS if each in given)
    return DIRECTIONS if egress else ("Ingress",)


def _rule(
    end: str,
    peers: Sequence[NetworkPolicyPeer],
    ports: Sequence[NetworkPolicyPort],
    namespace: str,
    here: str,
    findings: Findings,
) -> CompiledRule:
    before = len(findings.errors)
    words = {"source": "from", "destination": "to"}
    found = tuple(_peer(peer, namespace, f"{here}.{words[end]}[{index}]", findings) for index, peer in enumerate(peers))
    traffic = _traffic(ports, f"{here}.ports", findings)
    if len(findings.errors) > before:
        return failed("Allow")
    rule = CompiledRule(action="Allow", id="", traffic=traffic)
    found = tuple(dict.fromkeys(found))
    if end == "source":
        return msgspec.structs.replace(rule, sources=found)
    return msgspec.structs.replace(rule, destinations=found)


def _peer(peer: NetworkPolicyPeer, namespace: str, here: str, findings: Findings) -> Peer:
    if peer.ip_block is not None:
        if peer.pod_selector is not None or peer.namespace_selector is not None:
            findings.error(f"{here}.ipBlock", peer.ip_block.cidr, "cannot stand beside selectors")
        return _block(peer.ip_block, f"{here}.ipBlock", findings)
    if peer.pod_selector is None and peer.namespace_selector is None:
        findings.error(here, "{}", "a peer needs podSelector, namespaceSelector or ipBlock")
        return Peer()
    parts: list[Expression] = [selectors.own_namespace(namespace)]
    if peer.namespace_selector is not None:
        parts = namespaces(peer.namespace_selector, f"{here}.namespaceSelector", findings)
    parts.append(selectors.KUBERNETES)
    if peer.pod_selector is not None:
        parts += selectors.labels(peer.pod_selector, "", f"{here}.podSelector", findings)
    return Peer(selector=selectors.canonical(parts))


def namespaces(selector: LabelSelector, field: str, findings: Findings) -> list[Expression]:
    """An empty selector: any namespace."""
    return selectors.labels(selector, NAMESPACE_PREFIX, field, findings) or [selectors.IN_NAMESPACE]


def _block(block: IPBlock, here: str, findings: Findings) -> Peer:
    cidr = cidr_of(block.cidr, f"{here}.cidr", findings)
    excluded = [cidr_of(text, f"{here}.except[{index}]", findings) for index, text in enumerate(block.excluded)]
    return Peer(nets=in_order([cidr]), not_nets=in_order(excluded))


NOWHERE = ipaddress.ip_network("::/128")
"""Stands in for a net that could not be read; the rule fails anyway."""


def cidr_of(text: str, field: str, findings: Findings) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Kubernetes allows host bits in a CIDR, and they mean nothing."""
    if "/" not in text:
        findings.error(field, text, "is no CIDR")
        return NOWHERE
    return masked(text, field, findings) or NOWHERE


def _traffic(ports: Sequence[NetworkPolicyPort], here: str, findings: Findings) -> tuple[Traffic, ...]:
    """By protocol, in the order of their numbers. A port entry without a port means all ports of its protocol."""
    spans: dict[int, list[Span | str]] = {}
    whole: set[int] = set()
    for index, port in enumerate(ports):
        name = port.protocol or "TCP"
        if name not in PROTOCOLS:
            findings.error(f"{here}[{index}].protocol", name, f"must be one of {', '.join(PROTOCOLS)}")
            continue
        number = protocols.NUMBERS[name]
        spans.setdefault(number, [])
        if port.port is None:
            whole.add(number)
            if port.end_port is not None:
                findings.error(f"{here}[{index}].endPort", port.end_port, "needs a port")
            continue
        span = _span(port, f"{here}[{index}]", findings)
        if span is not None:
            spans[number].append(span)
    return tuple(
        Traffic(protocol=number, ports=() if number in whole else protocols.canonical_ports(spans[number]))
        for number in sorted(spans)
    )


def _span(port: NetworkPolicyPort, here: str, findings: Findings) -> Span | str | None:
    text = str(port.port)
    try:
        if ":" in text:
            raise ValueError("is no port")
        first = protocols.port(text)
        if port.end_port is None:
            return first
        if isinstance(first, str):
            findings.error(f"{here}.endPort", port.end_port, "needs a port number")
            return None
        return protocols.port(f"{first[0]}:{port.end_port}")
    except ValueError as error:
        findings.error(here if port.end_port is None else f"{here}.endPort", text, str(error))
        return None
