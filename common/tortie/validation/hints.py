"""What is legal but surely not meant: the warnings of `tortie validate`. An object is looked at among the others of the
same call, since what one policy denies another may allow."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tortie.api import protocols
from tortie.api.calico import API_VERSION, IPPool
from tortie.api.compiled import CompiledPolicySpec, CompiledRule, Traffic
from tortie.policy.build import records
from tortie.policy.convert import Policy, Problem, convert, ignored
from tortie.policy.convert.problems import shown
from tortie.policy.judge import ALLOW, DENY, LOG, PASS

Json = Mapping[str, Any]

OURS = ("projectcalico.org", "tortie.io")
"""Groups of which we know every kind."""

CALICOCTL = {(API_VERSION, kind) for kind in ("Profile", "WorkloadEndpoint", "Node")}
"""Kinds that calicoctl prints and no API server has."""

STORAGE = "crd.projectcalico.org/v1"
PREDECESSORS = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy")


def is_look_alike(document: Json) -> bool:
    """Others' kinds that are taken for ours."""
    return document["apiVersion"] == STORAGE or document["kind"] in PREDECESSORS


NO_HOSTS = "host endpoints are not programmed yet: there the policy is not enforced"
DNS, KUBELET = (protocols.UDP, 53), (protocols.TCP, 10250)


class Neighbours:
    """Valid objects that are looked at together."""

    def __init__(self, documents: Iterable[Json]) -> None:
        self._records = [record for document in documents for record in records([document])]
        policies = [convert(record).spec for record in self._records if isinstance(record, Policy)]
        self._resolving = [each for each in policies if not each.staged and _may(each, "Egress", DNS)]
        self._pools = [record for record in self._records if isinstance(record, IPPool)]

    def warnings(self, document: Json) -> Iterator[Problem]:
        """`document` has its defaults."""
        yield from _of_kind(document)
        yield from ignored(document)
        for record in records([document]):
            if isinstance(record, IPPool):
                yield from self._overlaps(record)
            if isinstance(record, Policy):
                yield from self._of_policy(document, record)

    def _overlaps(self, pool: IPPool) -> Iterator[Problem]:
        own = ipaddress.ip_network(pool.spec.cidr)
        for other in self._pools:
            if other.metadata.name != pool.metadata.name and own.overlaps(ipaddress.ip_network(other.spec.cidr)):
                message = f"overlaps with the pool {other.metadata.name}, {other.spec.cidr}: only the older one is used"
                yield Problem("spec.cidr", pool.spec.cidr, message)

    def _of_policy(self, document: Json, user: Policy) -> Iterator[Problem]:
        policy = convert(user).spec
        spec = document.get("spec", {})
        for direction in ("Ingress", "Egress"):
            yield from _of_direction(policy, direction, spec.get(direction.lower(), ()))
        yield from _source_ports(spec)
        yield from _empty_lists(spec)
        for field in ("applyOnForward", "preDNAT", "doNotTrack"):
            if spec.get(field):
                yield Problem(f"spec.{field}", "true", NO_HOSTS)
        if policy.staged:
            return
        if _denies(policy, "Egress", DNS) and not any(_meet(policy, each) for each in self._resolving):
            message = (
                "denies DNS, and no other policy here allows it: allow UDP and TCP port 53, or no name can be resolved"
            )
            yield Problem("spec.egress", "", message)
        everywhere = policy.source.kind == "gnp" and policy.selector == "all()"
        if everywhere and _denies(policy, "Ingress", KUBELET):
            message = (
                "also applies to host endpoints, once there are any, and denies the kubelet's port 10250 there (logs, "
                "exec, metrics). For pods only add namespaceSelector: all()"
            )
            yield Problem("spec.selector", spec.get("selector", ""), message)


def _of_kind(document: Json) -> Iterator[Problem]:
    api_version, kind = document["apiVersion"], document["kind"]
    if (api_version, kind) in CALICOCTL:
        yield Problem("kind", kind, "is not served by API servers: only `tortie policy` reads it, from files")
    elif api_version == STORAGE:
        yield Problem("apiVersion", api_version, f"is Calico's inner storage and has no effect: write {API_VERSION}")
    elif kind in PREDECESSORS:
        yield Problem("kind", kind, "has no effect: its successor is ClusterNetworkPolicy")
    elif kind == "HostEndpoint" and api_version == API_VERSION:
        yield Problem("kind", kind, NO_HOSTS.replace("there", "on it"))
    elif kind == "FelixConfiguration" and _is_for_nobody(document):
        yield Problem("spec.nodeSelector", "", "is needed: without, only default and node.<name> apply to a node")


def _is_for_nobody(configuration: Json) -> bool:
    name = configuration["metadata"]["name"]
    return name != "default" and not name.startswith("node.") and not configuration["spec"].get("nodeSelector")


def _of_direction(policy: CompiledPolicySpec, direction: str, users: list[Json]) -> Iterator[Problem]:
    here = f"spec.{direction.lower()}"
    compiled = _rules(policy, direction)
    if compiled and direction not in policy.types:
        yield Problem(here, f"{len(compiled)} rules", f"have no effect: the policy is not of type {direction}")
        return
    if compiled and all(rule.action == LOG for rule in compiled):
        message = "only logs, and what no rule allows is denied at the end of the tier: the endpoints are cut off"
        yield Problem(here, LOG, message)
    for index, (rule, user) in enumerate(zip(compiled, users, strict=True)):
        last = index == len(compiled) - 1
        if _is_unconditional(rule) and rule.action != LOG and not last:
            yield Problem(f"{here}[{index}]", rule.action, "matches everything: the rules after it are never reached")
            return
        yield from _without_ports(rule, user, f"{here}[{index}]")


def _without_ports(rule: CompiledRule, user: Json, here: str) -> Iterator[Problem]:
    """An Allow of a protocol that has ports, from everywhere, to all of them: ports were forgotten."""
    confined = rule.sources or rule.destinations or rule.source_ports or rule.not_source_ports or rule.not_ports
    if rule.action != ALLOW or rule.void or confined:
        return
    for traffic in rule.traffic:
        if traffic.protocol in protocols.WITH_PORTS and not traffic.ports:
            name = protocols.protocol_name(traffic.protocol)
            yield Problem(here, shown(user), f"allows every {name} port, from and to everywhere: are ports missing?")


def _source_ports(spec: Json) -> Iterator[Problem]:
    for direction in ("ingress", "egress"):
        for index, rule in enumerate(spec.get(direction, ())):
            ports = (rule.get("source") or {}).get("ports")
            target = rule.get("destination") or {}
            if ports and not (target.get("ports") or target.get("notPorts")):
                message = "are ports that clients send from, which are arbitrary: is destination.ports meant?"
                yield Problem(f"spec.{direction}[{index}].source.ports", shown(ports), message)


def _empty_lists(spec: Json) -> Iterator[Problem]:
    """Of Kubernetes' policies."""
    for direction, end in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            for name in (end, "ports"):
                if rule.get(name) == []:
                    what = "every port" if name == "ports" else "everybody"
                    yield Problem(f"spec.{direction}[{index}].{name}", "[]", f"an empty list means {what}")


def _rules(policy: CompiledPolicySpec, direction: str) -> tuple[CompiledRule, ...]:
    return policy.ingress if direction == "Ingress" else policy.egress


def _is_unconditional(rule: CompiledRule) -> bool:
    return not rule.void and rule == CompiledRule(action=rule.action, id=rule.id)


Port = tuple[int, int]
"""Protocol and port."""


def _denies(policy: CompiledPolicySpec, direction: str, port: Port) -> bool:
    """Whether a policy by itself lets nothing through on a port, wherever it goes."""
    if direction not in policy.types or policy.tier != "default":
        return False
    for rule in _rules(policy, direction):
        if rule.void or not _covers(rule, port):
            continue
        if rule.action in (ALLOW, PASS):
            return False
        if rule.action == DENY and not (rule.sources or rule.destinations):
            return True
    return True


def _may(policy: CompiledPolicySpec, direction: str, port: Port) -> bool:
    """Whether a policy lets a port through somewhere, or leaves it to others."""
    rules = _rules(policy, direction) if direction in policy.types else ()
    return any(rule.action in (ALLOW, PASS) and _covers(rule, port) for rule in rules)


def _meet(one: CompiledPolicySpec, other: CompiledPolicySpec) -> bool:
    """Whether two policies may be for the same endpoints, as far as namespaces say."""
    return one.source != other.source and len({one.source.namespace, other.source.namespace} - {""}) < 2


def _covers(rule: CompiledRule, port: Port) -> bool:
    if rule.void or rule.not_protocol == port[0] or rule.icmp:
        return False
    return not rule.traffic or any(_has(traffic, port) for traffic in rule.traffic)


def _has(traffic: Traffic, port: Port) -> bool:
    if traffic.protocol not in (0, port[0]):
        return False
    spans = [protocols.port(text) for text in traffic.ports]
    return not spans or any(isinstance(span, str) or span[0] <= port[1] <= span[1] for span in spans)
