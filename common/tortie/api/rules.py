"""Rules of Calico's policies and profiles, as users write them."""

from __future__ import annotations

import msgspec

from tortie.api.meta import Record

IntOrString = int | str


class ICMPFields(Record):
    type: int | None = None
    code: int | None = None


class HTTPPath(Record):
    exact: str = ""
    prefix: str = ""


class HTTPMatch(Record):
    """Nothing here looks into HTTP: a rule that has this counts as not understood."""

    methods: tuple[str, ...] = ()
    paths: tuple[HTTPPath, ...] = ()


class RuleMetadata(Record):
    annotations: dict[str, str] = {}


class ServiceAccountMatch(Record):
    """Both must hold: a name among `names`, and the selector over the labels of the service account."""

    names: tuple[str, ...] = ()
    selector: str = ""


class ServiceMatch(Record):
    """The backends of a service, at the destination with their ports."""

    name: str = ""
    namespace: str = ""
    """Empty: the policy's."""


class EntityRule(Record):
    """One end of a packet. All that is given must hold."""

    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()
    selector: str = ""
    not_selector: str = ""
    namespace_selector: str = ""
    """Narrows `selector` to namespaces; `global()`: to what is in none."""
    ports: tuple[IntOrString, ...] = ()
    """Any of: `80`, `8000:8999`, or a named port of the endpoint."""
    not_ports: tuple[IntOrString, ...] = ()
    service_accounts: ServiceAccountMatch | None = None
    services: ServiceMatch | None = None


class Rule(Record):
    action: str
    """Allow, Deny, Log or Pass."""
    ip_version: int | None = None
    protocol: IntOrString | None = None
    not_protocol: IntOrString | None = None
    icmp: ICMPFields | None = None
    not_icmp: ICMPFields | None = msgspec.field(default=None, name="notICMP")
    source: EntityRule = EntityRule()
    destination: EntityRule = EntityRule()
    http: HTTPMatch | None = None
    metadata: RuleMetadata | None = None
    """Of no effect."""
