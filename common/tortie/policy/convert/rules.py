"""Calico's rules → rules of the normal form, each by itself: one that is not understood fails closed and keeps its
index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tortie.api import protocols
from tortie.api.compiled import CompiledRule, Peer, Traffic
from tortie.api.rules import EntityRule, Rule, ServiceAccountMatch
from tortie.api.selector import Expression, Member, Not
from tortie.policy.convert import fields, selectors
from tortie.policy.convert.problems import Findings
from tortie.policy.labels import ACCOUNT, ACCOUNT_PREFIX, NAMESPACE_PREFIX

ACTIONS = ("Allow", "Deny", "Log", "Pass")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule stands."""

    direction: str
    """Ingress or Egress."""
    namespace: str = ""
    """Of the policy; empty: a global one."""

    @property
    def services_end(self) -> str:
        """The only end at which a rule of this direction may name services."""
        return "source" if self.direction == "Ingress" else "destination"


def failed(action: str) -> CompiledRule:
    """What stands for a rule that is not understood: an Allow or Log matches nothing, all else denies everything."""
    if action in ("Allow", "Log"):
        return CompiledRule(action=action, id="", void=True)
    return CompiledRule(action="Deny", id="")


def rules(users: Sequence[Rule], scope: Scope, findings: Findings) -> list[CompiledRule]:
    here = f"spec.{scope.direction.lower()}"
    return [rule(each, scope, f"{here}[{index}]", findings) for index, each in enumerate(users)]


def rule(user: Rule, scope: Scope, here: str, findings: Findings) -> CompiledRule:
    before = len(findings.errors)
    if user.action not in ACTIONS:
        findings.error(f"{here}.action", user.action, f"must be one of {', '.join(ACTIONS)}")
    protocol = fields.protocol_of(user.protocol, f"{here}.protocol", findings)
    not_protocol = fields.protocol_of(user.not_protocol, f"{here}.notProtocol", findings)
    fields.check_version(user, protocol, not_protocol, here, findings)
    nets = fields.all_nets(user, here, findings)
    icmp = fields.icmp_of(user.icmp, f"{here}.icmp", findings)
    if icmp and protocol not in (protocols.ICMP, protocols.ICMPV6):
        findings.error(f"{here}.icmp", user.protocol or "", "needs protocol ICMP or ICMPv6")
    ports = fields.all_ports(user, protocol, here, findings)
    result = CompiledRule(
        action=user.action,
        id="",
        ip_version=user.ip_version or 0,
        traffic=(Traffic(protocol=protocol, ports=ports["destination.ports"]),)
        if protocol or ports["destination.ports"]
        else (),
        not_protocol=not_protocol,
        icmp=icmp,
        not_icmp=fields.icmp_of(user.not_icmp, f"{here}.notICMP", findings),
        sources=_peers(user.source, "source", nets, scope, here, findings),
        destinations=_peers(user.destination, "destination", nets, scope, here, findings),
        source_ports=ports["source.ports"],
        not_source_ports=ports["source.notPorts"],
        not_ports=ports["destination.notPorts"],
    )
    understood = len(findings.errors) == before and user.http is None
    return result if understood else failed(user.action)


def _peers(
    entity: EntityRule,
    end: str,
    nets: Mapping[str, tuple[str, ...]],
    scope: Scope,
    here: str,
    findings: Findings,
) -> tuple[Peer, ...]:
    here = f"{here}.{end}"
    peer = Peer(
        selector=_selector(entity, scope, here, findings),
        not_selector=_not_selector(entity, here, findings),
        nets=nets[f"{end}.nets"],
        not_nets=nets[f"{end}.notNets"],
        service=_service(entity, end, scope, here, findings),
    )
    return () if peer == Peer() else (peer,)


def _selector(entity: EntityRule, scope: Scope, here: str, findings: Findings) -> str:
    """One selector for `selector`, `namespaceSelector`, `serviceAccounts` and the namespace of the policy.

    In a namespaced policy any of them, and `notSelector` too, confines the rule to the policy's namespace, unless a
    namespace selector says otherwise. Nets alone do not.
    """
    accounts = _accounts(entity.service_accounts, f"{here}.serviceAccounts", findings)
    parts: list[Expression] = []
    if entity.namespace_selector:
        parts += _namespaces(entity.namespace_selector, f"{here}.namespaceSelector", findings)
    elif scope.namespace and (entity.selector or entity.not_selector or accounts):
        parts.append(selectors.own_namespace(scope.namespace))
    parts += accounts
    if entity.selector:
        expression = selectors.read(entity.selector, f"{here}.selector", findings)
        if expression and selectors.has_global(expression):
            findings.error(f"{here}.selector", entity.selector, "global() is only for a namespaceSelector")
        elif expression:
            parts.append(expression)
    return selectors.canonical(parts) if parts else ""


def _namespaces(text: str, field: str, findings: Findings) -> list[Expression]:
    expression = selectors.read(text, field, findings)
    if expression is None:
        return []
    if selectors.has_global(expression) and expression != selectors.GLOBAL:
        findings.error(field, text, "global() must stand alone")
    meanings: dict[Expression, Expression] = {
        selectors.EVERYTHING: selectors.IN_NAMESPACE,
        selectors.GLOBAL: Not(selectors.IN_NAMESPACE),
    }
    return [selectors.rewritten(expression, NAMESPACE_PREFIX, meanings)]


def _accounts(match: ServiceAccountMatch | None, field: str, findings: Findings) -> list[Expression]:
    parts: list[Expression] = []
    if match and match.names:
        parts.append(Member(ACCOUNT, frozenset(match.names), within=True))
    if match and match.selector:
        expression = selectors.read(match.selector, f"{field}.selector", findings)
        if expression:
            parts.append(selectors.rewritten(expression, ACCOUNT_PREFIX, {}))
    return parts


def _not_selector(entity: EntityRule, here: str, findings: Findings) -> str:
    if not entity.not_selector:
        return ""
    expression = selectors.read(entity.not_selector, f"{here}.notSelector", findings)
    return expression.canonical if expression else ""


def _service(entity: EntityRule, end: str, scope: Scope, here: str, findings: Findings) -> str:
    match = entity.services
    if match is None:
        return ""
    field, name = f"{here}.services", match.name
    namespace = match.namespace or scope.namespace
    if not name:
        findings.error(f"{field}.name", name, "must be set")
    if not namespace:
        findings.error(f"{field}.namespace", match.namespace, "must be set in a global policy")
    if end != scope.services_end:
        findings.error(field, name, f"services are only for the {scope.services_end} of {scope.direction} rules")
    beside: dict[str, object] = {
        "selector": entity.selector,
        "notSelector": entity.not_selector,
        "namespaceSelector": entity.namespace_selector,
        "serviceAccounts": entity.service_accounts,
        "nets": entity.nets,
        "notNets": entity.not_nets,
    }
    if end == "destination":
        beside |= {"ports": entity.ports, "notPorts": entity.not_ports}
    for other, value in beside.items():
        if value:
            findings.error(f"{here}.{other}", value, "cannot stand beside services")
    return f"{namespace}/{name}"
