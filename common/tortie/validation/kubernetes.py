"""NetworkPolicy of networking.k8s.io/v1, which has no CRD: its schema, and what the API server checks in Go
(kubernetes 1.37, pkg/apis/networking/validation; older ones let CIDRs with host bits pass)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tortie.policy.convert import Problem
from tortie.policy.convert.problems import shown
from tortie.validation.metadata import AS_KEY, AS_VALUE, is_key, is_value
from tortie.validation.rules import is_net

Json = Mapping[str, Any]


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name.rstrip("_"): each for name, each in properties.items()}}


def _list(items: Json) -> dict[str, Any]:
    return {"type": "array", "items": items}


TEXT: dict[str, Any] = {"type": "string"}
SELECTOR = _object(
    matchLabels={"type": "object", "additionalProperties": TEXT},
    matchExpressions=_list(_object(key=TEXT, operator=TEXT, values=_list(TEXT))),
)
PEERS = _list(
    _object(podSelector=SELECTOR, namespaceSelector=SELECTOR, ipBlock=_object(cidr=TEXT, **{"except": _list(TEXT)}))
)
PORTS = _list(
    _object(
        protocol=TEXT,
        port={"x-kubernetes-int-or-string": True},
        endPort={"type": "integer", "format": "int32"},
    )
)
SCHEMA = _object(
    spec=_object(
        podSelector=SELECTOR,
        policyTypes=_list(TEXT),
        ingress=_list(_object(from_=PEERS, ports=PORTS)),
        egress=_list(_object(to=PEERS, ports=PORTS)),
    ),
    status={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
)

KIND = ("networking.k8s.io/v1", "NetworkPolicy")
TYPES, PROTOCOLS = ("Ingress", "Egress"), ("TCP", "UDP", "SCTP")
PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def decoded(value: Any, schema: Json = SCHEMA) -> Any:
    """As Go reads a null in a list: as an item in which nothing is set."""
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        return {name: decoded(each, known.get(name, {})) for name, each in value.items()}
    if isinstance(value, list):
        items = schema.get("items", {})
        nothing: Any = {"object": {}, "string": ""}.get(items.get("type", ""))
        return [nothing if each is None else decoded(each, items) for each in value]
    return value


def problems(policy: Json) -> Iterator[Problem]:
    """Of a policy that fits SCHEMA, without nulls."""
    spec = policy.get("spec", {})
    yield from _selector(spec.get("podSelector", {}), "spec.podSelector")
    for direction, end in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            here = f"spec.{direction}[{index}]"
            for place, port in enumerate(rule.get("ports", ())):
                yield from _port(port, f"{here}.ports[{place}]")
            for place, peer in enumerate(rule.get(end, ())):
                yield from _peer(peer, f"{here}.{end}[{place}]")
    types = spec.get("policyTypes", ())
    if len(types) > len(TYPES):
        yield Problem("spec.policyTypes", shown(types), "must be at most two")
        return
    for index, each in enumerate(types):
        if each not in TYPES:
            yield Problem(f"spec.policyTypes[{index}]", each, f"must be one of {', '.join(TYPES)}")


def _port(port: Json, here: str) -> Iterator[Problem]:
    protocol, number, last = port.get("protocol", "TCP"), port.get("port"), port.get("endPort")
    if protocol not in PROTOCOLS:
        yield Problem(f"{here}.protocol", protocol, f"must be one of {', '.join(PROTOCOLS)}")
    if isinstance(number, str):
        if last is not None:
            yield Problem(f"{here}.endPort", shown(last), f"needs a port that is a number, not {number}")
        if not PORT_NAME.fullmatch(number):
            yield Problem(f"{here}.port", number, "is no name of a port: at most 15 of a-z, 0-9 and '-', one a letter")
    elif number is not None:
        if not 1 <= number <= 65535:
            yield Problem(f"{here}.port", shown(number), "must be within 1..65535")
        if last is not None and last < number:
            yield Problem(f"{here}.endPort", shown(last), f"must not be below port {number}")
        if last is not None and not 1 <= last <= 65535:
            yield Problem(f"{here}.endPort", shown(last), "must be within 1..65535")
    elif last is not None:
        yield Problem(f"{here}.endPort", shown(last), "needs a port")


def _peer(peer: Json, here: str) -> Iterator[Problem]:
    if not peer:
        yield Problem(here, "{}", "must have a podSelector, a namespaceSelector or an ipBlock")
    if "ipBlock" in peer and len(peer) > 1:
        yield Problem(here, shown(sorted(peer)), "an ipBlock stands alone")
    for name in ("podSelector", "namespaceSelector"):
        yield from _selector(peer.get(name, {}), f"{here}.{name}")
    if "ipBlock" in peer:
        yield from _block(peer["ipBlock"], f"{here}.ipBlock")


def _block(block: Json, here: str) -> Iterator[Problem]:
    cidr = block.get("cidr", "")
    if problem := _not_masked(cidr):
        yield Problem(f"{here}.cidr", cidr, problem if cidr else "is required")
        return
    outer = ipaddress.ip_network(cidr)
    for index, text in enumerate(block.get("except", ())):
        field = f"{here}.except[{index}]"
        if problem := _not_masked(text):
            yield Problem(field, text, problem)
            continue
        inner = ipaddress.ip_network(text)
        if inner.version != outer.version or inner.network_address not in outer or inner.prefixlen <= outer.prefixlen:
            yield Problem(field, text, f"must be a part of {cidr}")


def _not_masked(text: str) -> str:
    """What is wrong with a CIDR, if anything."""
    if not is_net(text):
        return "is no CIDR"
    interface = ipaddress.ip_interface(text)
    return "" if interface.ip == interface.network.network_address else f"has host bits, write {interface.network}"


def _selector(selector: Json, here: str) -> Iterator[Problem]:
    for key, value in selector.get("matchLabels", {}).items():
        if not is_key(key):
            yield Problem(f"{here}.matchLabels", key, AS_KEY)
        if not is_value(value):
            yield Problem(f"{here}.matchLabels", value, AS_VALUE)
    for index, requirement in enumerate(selector.get("matchExpressions", ())):
        yield from _requirement(requirement, f"{here}.matchExpressions[{index}]")


def _requirement(requirement: Json, here: str) -> Iterator[Problem]:
    key, operator, values = requirement.get("key", ""), requirement.get("operator", ""), requirement.get("values", ())
    if operator in ("In", "NotIn") and not values:
        yield Problem(f"{here}.values", "[]", f"{operator} needs at least one value")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield Problem(f"{here}.values", shown(values), f"{operator} takes no values")
    elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        yield Problem(f"{here}.operator", operator, "must be In, NotIn, Exists or DoesNotExist")
    if not is_key(key):
        yield Problem(f"{here}.key", key, AS_KEY)
    for index, value in enumerate(values):
        if not is_value(value):
            yield Problem(f"{here}.values[{index}]", value, AS_VALUE)
