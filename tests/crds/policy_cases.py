"""Cases of the rules that the four kinds of Calico's policies repeat, for each place where they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .cases import Case
from .conftest import Json

KINDS = ("NetworkPolicy", "StagedNetworkPolicy", "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy")
SERVICES: Json = {"services": {"name": "web", "namespace": "shop"}}


@dataclass(frozen=True)
class Part:
    """A rule of CEL with an object that passes it and one that it refuses, both of the part that it belongs to."""

    rule: str
    good: Json
    bad: Json
    says: tuple[str, ...]
    inner: str = ""
    """Place of the rule within its part."""
    path: str = ""
    """Path within the part that the refusal names."""
    alone: bool = True


RULES = [
    Part(
        "http is for the action Allow",
        {"action": "Allow", "http": {"methods": ["GET"]}},
        {"action": "Deny", "http": {"methods": ["GET"]}},
        ("http is for the action Allow, not for Deny",),
        path=".http",
    ),
    *(
        Part(
            "protocol must be TCP, or absent, beside http",
            {"action": "Allow", "http": {}, "protocol": good},
            {"action": "Allow", "http": {}, "protocol": bad},
            (f"protocol {bad} must be TCP, or absent, beside http",),
            path=".protocol",
        )
        for good, bad in [("TCP", "UDP"), (6, 17), ("6", "SCTP")]
    ),
    *(
        Part(
            "protocol must be ICMP or ICMPv6 beside icmp",
            {"action": "Allow", "icmp": {"type": 8}, "protocol": good},
            {"action": "Allow", "icmp": {"type": 8}} | bad,
            (says,),
            path=".protocol",
        )
        for good, bad, says in [
            ("ICMP", {"protocol": "TCP"}, "protocol TCP must be ICMP or ICMPv6 beside icmp"),
            (58, {"protocol": 6}, "protocol 6 must be ICMP or ICMPv6 beside icmp"),
            ("1", {}, "protocol must be ICMP or ICMPv6 beside icmp"),
        ]
    ),
    *(
        Part(
            f"ipVersion {wrong} has no {field} {name}, write {other}",
            {"action": "Allow", field: good, "ipVersion": right},
            {"action": "Allow", field: bad, "ipVersion": wrong},
            (f"ipVersion {wrong} has no {field} {name}",),
            path=".ipVersion",
        )
        for field in ("protocol", "notProtocol")
        for name, other, right, wrong, good, bad in [
            ("ICMP", "ICMPv6", 4, 6, "ICMP", 1),
            ("ICMP", "ICMPv6", 4, 6, 1, "ICMP"),
            ("ICMPv6", "ICMP", 6, 4, "ICMPv6", 58),
            ("ICMPv6", "ICMP", 6, 4, 58, "ICMPv6"),
        ]
    ),
    *(
        Part(
            "protocol must be TCP, UDP or SCTP beside ports",
            {"action": "Allow", "protocol": good, side: {field: [80]}},
            {"action": "Allow", "protocol": bad, side: {field: ["http"]}},
            (f"protocol {bad} must be TCP, UDP or SCTP beside ports",),
            path=".protocol",
        )
        for side, field, good, bad in [
            ("source", "ports", "TCP", "ICMP"),
            ("source", "notPorts", 132, 1),
            ("destination", "ports", "17", "UDPLite"),
            ("destination", "notPorts", "UDP", 47),
        ]
    ),
    *(
        Part(
            "protocol must be TCP, UDP or SCTP beside ports that are numbers",
            {"action": "Allow", side: {field: ["http", "metrics-2"]}},
            {"action": "Allow", side: {field: ["http", 80]}},
            ("protocol must be TCP, UDP or SCTP beside ports that are numbers",),
            path=".protocol",
        )
        for side in ("source", "destination")
        for field in ("ports", "notPorts")
    ),
    *(
        Part(
            "ipVersion must be that of the nets",
            {"action": "Allow", "ipVersion": 6, side: {field: ["2001:db8::/32"]}},
            {"action": "Allow", "ipVersion": version, side: {field: [net]}},
            (f"ipVersion {version} must be that of the nets", net),
            path=".ipVersion",
        )
        for side, field, version, net in [
            ("source", "nets", 6, "10.0.0.0/8"),
            ("source", "notNets", 4, "2001:db8::/32"),
            ("destination", "nets", 4, "2001:db8::/32"),
            ("destination", "notNets", 6, "10.0.0.0/8"),
        ]
    ),
    *(
        Part(
            "nets and notNets of source and destination must be of one IP version",
            {"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["10.0.0.0/8"]}},
            {"action": "Allow"} | bad,
            ('must be of one IP version: ["10.0.0.0/8", "2001:db8::/32"]',),
        )
        for bad in [
            {"source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["2001:db8::/32"]}},
            {"source": {"nets": ["10.0.0.0/8"], "notNets": ["2001:db8::/32"]}},
            {"destination": {"nets": ["10.0.0.0/8"], "notNets": ["2001:db8::/32"]}},
        ]
    ),
    *(
        Part(
            "code needs a type",
            {"action": "Allow", "protocol": "ICMP", field: {"type": 3, "code": 4}},
            {"action": "Allow", "protocol": "ICMP", field: {"code": 4}},
            ("code 4 needs a type",),
            inner=f".{field}",
            path=f".{field}.code",
        )
        for field in ("icmp", "notICMP")
    ),
    *(
        Part(
            "a path must have either exact or prefix",
            {"action": "Allow", "http": {"paths": [{"exact": "/a", "prefix": ""}]}},
            {"action": "Allow", "http": {"paths": [{"prefix": "/a"}, bad]}},
            (says,),
            inner=".http.paths[]",
            path=".http.paths[1]",
        )
        for bad, says in [
            ({"exact": "/a", "prefix": "/b"}, "either exact or prefix, not both /a and /b"),
            ({}, "a path must have either exact or prefix"),
        ]
    ),
    Part(
        "services of a destination exclude ports and notPorts",
        {"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}},
        {"action": "Allow", "protocol": "TCP", "destination": SERVICES | {"notPorts": [80]}},
        ("services of a destination exclude ports and notPorts",),
        path=".destination.services",
    ),
]

SIDES = [
    Part(
        "selector must not use global(), which is for namespaceSelector",
        {"selector": "has(a)"},
        {"selector": "a == 'b' || global()"},
        ("selector a == 'b' || global() must not use global()",),
        path=".selector",
    ),
    *(
        Part(
            "namespaceSelector must use global() alone",
            {"namespaceSelector": good},
            {"namespaceSelector": bad},
            (f"namespaceSelector {bad} must use global() alone",),
            path=".namespaceSelector",
        )
        for good, bad in [("global()", "!global()"), (" global( \t) ", "global() || has(a)"), ("has(a)", "(global())")]
    ),
    Part(
        "services must have a name",
        {"namespaceSelector": "all()"},
        {"services": {"name": "", "namespace": "shop"}},
        ("services must have a name",),
        path=".services.name",
    ),
    Part(
        "services must have a name",
        {"selector": "all()"},
        {"services": {"namespace": "shop"}},
        ("services must have a name",),
        path=".services.name",
    ),
    *(
        Part(
            f"services excludes {what}",
            {field: value},
            SERVICES | {field: value},
            (says,),
            path=".services",
        )
        for what, field, value, says in [
            ("selector and notSelector", "selector", "has(a)", "services excludes selector has(a)"),
            ("selector and notSelector", "notSelector", "has(b)", "services excludes notSelector has(b)"),
            ("namespaceSelector", "namespaceSelector", "has(c)", "services excludes namespaceSelector has(c)"),
            ("nets and notNets", "nets", ["10.0.0.0/8"], "services excludes nets (10.0.0.0/8 …)"),
            ("nets and notNets", "notNets", ["10.0.0.0/8"], "services excludes notNets (10.0.0.0/8 …)"),
            ("serviceAccounts", "serviceAccounts", {"names": ["a"]}, "services web excludes serviceAccounts"),
        ]
    ),
    *(
        Part(
            "must be a CIDR without host bits",
            {field: ["10.0.0.0/8", "192.0.2.1/32"]},
            {field: ["10.0.0.0/8", "192.0.2.1/24"]},
            ("192.0.2.1/24 has host bits, write 192.0.2.0/24",),
            inner=f".{field}[]",
            path=f".{field}[1]",
        )
        for field in ("nets", "notNets")
    ),
    Part(
        "must be a CIDR without host bits",
        {"nets": ["2001:DB8:0::/48", "::/0"]},
        {"nets": ["2001:db8::1/64"]},
        ("2001:db8::1/64 has host bits, write 2001:db8::/64",),
        inner=".nets[]",
        path=".nets[0]",
    ),
    *(
        Part(
            "notNets must leave some addresses",
            {"notNets": ["128.0.0.0/1"]},
            {"notNets": [bad]},
            (f"notNets: {bad} leaves no address",),
            inner=".notNets[]",
            path=".notNets[0]",
        )
        for bad in ("0.0.0.0/0", "::/0")
    ),
]


def cases() -> Iterator[Case]:
    for kind in KINDS:
        for direction in ("ingress", "egress"):
            yield from _rules(kind, direction)
            yield from _sides(kind, direction)


def _rules(kind: str, direction: str) -> Iterator[Case]:
    for part in RULES:
        # What this direction may not have at all is refused for that too, and is left out of the good object.
        foreign = "services" if direction == "ingress" else "http"
        misplaced = foreign in repr(part.bad)
        good = {"action": "Log"} if foreign in repr(part.good) else part.good
        yield _case(kind, direction, part, good, part.bad, alone=not misplaced)


def _sides(kind: str, direction: str) -> Iterator[Case]:
    for side in ("source", "destination"):
        allowed = side == ("source" if direction == "ingress" else "destination")
        for part in SIDES:
            good, bad = ({"action": "Allow", side: each} for each in (part.good, part.bad))
            yield _case(kind, direction, part, good, bad, f".{side}", alone=allowed or "services" not in part.bad)


def _case(kind: str, direction: str, part: Part, good: Json, bad: Json, side: str = "", *, alone: bool) -> Case:
    return Case(
        kind,
        part.rule,
        good={direction: [good]},
        bad={direction: [{"action": "Log"}, bad]},
        says=(f"spec.{direction}[1]{side}{part.path}: ", *part.says),
        where=f"spec.{direction}[]{side}{part.inner}",
        alone=alone,
    )
