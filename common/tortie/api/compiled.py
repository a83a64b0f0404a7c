"""CompiledTier, CompiledPolicy and CompiledNetworkSet: the one normal form that every kind of policy becomes.

A rule matches a packet if everything in it does. What one rule of the user's YAML lists side by side stays side by
side here (peers of each end, protocols with their ports): a rule is never multiplied out, so that its index is the
user's and its size the user's. Selectors are canonical and complete: namespaces, service accounts and the policy's own
namespace are already in them (`pcns.` and `pcsa.` keys), so that they are matched against effective labels only.
"""

from __future__ import annotations

import msgspec

from tortie.api.meta import Metadata, Object, Record

GROUP = "tortie.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FORMAT = 1
"""Format of the internal objects. An agent reads its own format and the one before and after it."""

STAMPED = ("compiledtiers", "compiledpolicies", "compilednetworksets")
"""Plurals of the kinds whose acknowledged resourceVersions an `after` stamp carries."""

NOTHING = "!all()"
"""The selector that selects no endpoint."""


class Stamp(Record):
    """Who wrote an object, and what its reader must have seen before it may adopt it.

    `epoch` is the writer's lease epoch (leaseTransitions of the operator's Lease): a writer that meets a higher one
    exits. `after` maps a plural of STAMPED to the highest resourceVersion of that kind that the API server had
    acknowledged to the writer.
    """

    format: int = FORMAT
    epoch: int = 0
    after: dict[str, int] = {}


class Source(Record):
    """The object that a compiled one was made from."""

    kind: str
    """A policy's: one of knp np gnp cnp snp sgnp sknp; a profile's: kns or ksa, or `profile` for one that calicoctl
    printed; a set's: gns, ns, or svc for a service."""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    generation: int = 0


class CompiledTierSpec(Stamp):
    """The tier's name is the object's."""

    order: float | None = None
    """None: after all tiers that have one."""
    default_action: str = "Deny"
    """Deny or Pass."""


class CompiledTier(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledTier"
    metadata: Metadata
    spec: CompiledTierSpec


class Peer(Record):
    """One end of a packet, by its address. All that is given must hold; the negations are of "any of"."""

    selector: str = ""
    """Holds if an endpoint or network set that has the address matches; an address that nobody has matches none."""
    not_selector: str = ""
    """Holds if no endpoint or network set that has the address matches; true of an address that nobody has."""
    nets: tuple[str, ...] = ()
    """CIDRs, masked and sorted; the address must be in one."""
    not_nets: tuple[str, ...] = ()
    service: str = ""
    """`namespace/name`: a backend of that service. At the destination the port and protocol must be its too."""


class Traffic(Record):
    """A protocol and destination ports of it."""

    protocol: int = 0
    """Number; 0: any."""
    ports: tuple[str, ...] = ()
    """Any of: `80`, `8000:8999`, or the name of a port of an endpoint that has the destination address (if the peer
    has a selector: of one that it matches). Numbers are merged and sorted. None: any port."""


class ICMP(Record):
    type: int
    code: int | None = None
    """None: any."""


class CompiledRule(Record):
    action: str
    """Allow, Deny, Log or Pass."""
    id: str
    """16 hex digits: the first 8 bytes of SHA-256 over source uid, direction, canonical rule and occurrence."""
    void: bool = False
    """Matches no packet: the user's Allow or Log was not understood, but keeps its index."""
    ip_version: int = 0
    """4, 6 or 0 for both."""
    traffic: tuple[Traffic, ...] = ()
    """Any of; none: any."""
    not_protocol: int = 0
    icmp: ICMP | None = None
    not_icmp: ICMP | None = msgspec.field(default=None, name="notICMP")
    sources: tuple[Peer, ...] = ()
    """Any of; none: any address."""
    destinations: tuple[Peer, ...] = ()
    source_ports: tuple[str, ...] = ()
    """As `Traffic.ports`, of the source."""
    not_source_ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    """Destination ports that must not be."""


class CompiledPolicySpec(Stamp):
    """A policy, or the profile of a namespace (`kns`) or service account (`ksa`), which has labels to inherit."""

    source: Source
    tier: str = ""
    """Empty: a profile."""
    order: float | None = None
    """None: after all policies that have one."""
    selector: str = ""
    """Endpoints that the policy applies to; a profile has none, endpoints name it."""
    types: tuple[str, ...] = ()
    """Directions that a policy governs: Ingress, Egress or both."""
    staged: str = ""
    """`stagedAction` of a staged policy, which is never enforced: Set, Delete, Learn or Ignore."""
    apply_on_forward: bool = False
    pre_dnat: bool = msgspec.field(default=False, name="preDNAT")
    do_not_track: bool = False
    ingress: tuple[CompiledRule, ...] = ()
    egress: tuple[CompiledRule, ...] = ()
    labels: dict[str, str] = {}
    """Labels that the profile's endpoints inherit, prefixed `pcns.` or `pcsa.`."""


class CompiledPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledPolicy"
    metadata: Metadata
    spec: CompiledPolicySpec


class Backends(Record):
    """Addresses of a service that serve the same ports."""

    ports: tuple[str, ...] = ()
    """`protocol number:port`, as in `6:8080`."""
    nets: tuple[str, ...] = ()


class CompiledNetworkSetSpec(Stamp):
    """A network set, which rules select by labels, or the backends of a service, which rules name."""

    source: Source = Source(kind="gns")
    labels: dict[str, str] = {}
    """The set's own. One in a namespace inherits the labels of the namespace's profile, and has
    `projectcalico.org/namespace`."""
    nets: tuple[str, ...] = ()
    backends: tuple[Backends, ...] = ()
    """Of a service; it has neither labels nor nets."""


class CompiledNetworkSet(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledNetworkSet"
    metadata: Metadata
    spec: CompiledNetworkSetSpec
