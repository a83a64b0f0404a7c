"""An object that passes a CEL rule, and one that it refuses: rules of addresses."""

from __future__ import annotations

from dataclasses import dataclass

from .conftest import Json


@dataclass(frozen=True)
class Case:
    kind: str
    rule: str
    """`message` of the rule."""
    good: Json
    bad: Json
    says: tuple[str, ...]
    """What the refusal must contain: the field's path, its name and its value."""
    old: Json | None = None
    """Spec of the object that `good` and `bad` are updates of; its status, where the rule is about that."""
    good_name: str = "default"
    bad_name: str = "default"
    where: str = ""
    """Place of the rule in the schema, as `fields` writes it; empty: the only one of the kind with that message."""
    alone: bool = True
    """Whether no other rule refuses `bad`."""


V4, V6 = {"cidr": "10.1.0.0/16"}, {"cidr": "fd00:1::/64"}
LB = V4 | {"allowedUses": ["LoadBalancer"]}
STRICT = {"strictAffinity": True}

CASES = [
    Case(
        "IPPool",
        "cidr is immutable",
        old=V4,
        good=V4 | {"natOutgoing": True},
        bad={"cidr": "10.2.0.0/16"},
        says=("spec.cidr", "cidr is immutable: 10.1.0.0/16 cannot become 10.2.0.0/16"),
    ),
    Case(
        "IPPool",
        "blockSize is immutable",
        old=V4 | {"blockSize": 26},
        good=V4,
        bad=V4 | {"blockSize": 28},
        says=("spec.blockSize", "blockSize is immutable: 26 cannot become 28"),
    ),
    Case(
        "IPPool",
        "blockSize is immutable",
        old=V6,
        good=V6 | {"blockSize": 122},
        bad=V6 | {"blockSize": 123},
        says=("spec.blockSize", "blockSize is immutable: the default cannot become 123"),
    ),
    Case(
        "IPPool",
        "cidr must have no host bits",
        good=V4,
        bad={"cidr": "10.1.0.1/16"},
        says=("spec.cidr", "cidr 10.1.0.1/16 has host bits, write 10.1.0.0/16"),
    ),
    Case(
        "IPPool",
        "cidr must have no host bits",
        good=V6,
        bad={"cidr": "fd00:1::1/64"},
        says=("spec.cidr", "cidr fd00:1::1/64 has host bits, write fd00:1::/64"),
    ),
    Case(
        "IPPool",
        "cidr must not overlap the link-local range 169.254.0.0/16",
        good={"cidr": "169.253.0.0/16"},
        bad={"cidr": "169.254.4.0/24"},
        says=("spec.cidr", "cidr 169.254.4.0/24 must not overlap", "169.254.0.0/16"),
    ),
    Case(
        "IPPool",
        "cidr must not overlap the link-local range 169.254.0.0/16",
        good=V6,
        bad={"cidr": "169.252.0.0/14"},
        says=("spec.cidr", "cidr 169.252.0.0/14 must not overlap", "169.254.0.0/16"),
    ),
    Case(
        "IPPool",
        "cidr must not overlap the link-local range fe80::/10",
        good=V6,
        bad={"cidr": "fe80:1::/64"},
        says=("spec.cidr", "cidr fe80:1::/64 must not overlap", "fe80::/10"),
    ),
    Case(
        "IPPool",
        "blockSize must be 0 or within 20..32 for IPv4, 116..128 for IPv6",
        good=V4 | {"blockSize": 20},
        bad=V4 | {"blockSize": 19},
        says=("spec.blockSize", "blockSize 19 must be 0 or within 20..32 for the cidr 10.1.0.0/16"),
    ),
    Case(
        "IPPool",
        "blockSize must be 0 or within 20..32 for IPv4, 116..128 for IPv6",
        good=V4 | {"blockSize": 0},
        bad=V4 | {"blockSize": 33},
        says=("spec.blockSize", "blockSize 33 must be"),
    ),
    Case(
        "IPPool",
        "blockSize must be 0 or within 20..32 for IPv4, 116..128 for IPv6",
        good=V6 | {"blockSize": 128},
        bad=V6 | {"blockSize": 115},
        says=("spec.blockSize", "blockSize 115 must be 0 or within 116..128 for the cidr fd00:1::/64"),
    ),
    Case(
        "IPPool",
        "cidr must hold at least one block",
        good={"cidr": "10.1.0.0/26"},
        bad={"cidr": "10.1.0.0/27"},
        says=("spec.cidr", "cidr 10.1.0.0/27 is smaller than one block of /26"),
    ),
    Case(
        "IPPool",
        "cidr must hold at least one block",
        good={"cidr": "10.1.0.0/27", "disabled": True},
        bad={"cidr": "10.1.0.0/27", "blockSize": 26},
        says=("spec.cidr", "cidr 10.1.0.0/27 is smaller than one block of /26"),
    ),
    Case(
        "IPPool",
        "cidr must hold at least one block",
        good={"cidr": "fd00:1::/124", "blockSize": 124},
        bad={"cidr": "fd00:1::/124"},
        says=("spec.cidr", "cidr fd00:1::/124 is smaller than one block of /122"),
    ),
    Case(
        "IPPool",
        "ipipMode and vxlanMode exclude each other",
        good=V4 | {"ipipMode": "Never", "vxlanMode": "Always"},
        bad=V4 | {"ipipMode": "Always", "vxlanMode": "CrossSubnet"},
        says=("spec.ipipMode", "ipipMode Always and vxlanMode CrossSubnet exclude each other"),
    ),
    Case(
        "IPPool",
        "ipipMode is for IPv4 only",
        good=V4 | {"ipipMode": "Always"},
        bad=V6 | {"ipipMode": "Always"},
        says=("spec.ipipMode", "ipipMode Always is for IPv4 only, not for the cidr fd00:1::/64"),
    ),
    Case(
        "IPPool",
        "allowedUses LoadBalancer excludes ipipMode and vxlanMode",
        good=LB | {"vxlanMode": "Never", "ipipMode": "Never"},
        bad=LB | {"vxlanMode": "Always"},
        says=("spec.allowedUses", "allowedUses LoadBalancer excludes vxlanMode Always"),
    ),
    Case(
        "IPPool",
        "allowedUses LoadBalancer excludes ipipMode and vxlanMode",
        good=LB,
        bad=LB | {"ipipMode": "CrossSubnet"},
        says=("spec.allowedUses", "allowedUses LoadBalancer excludes ipipMode CrossSubnet"),
    ),
    Case(
        "IPPool",
        "allowedUses LoadBalancer excludes Workload and Tunnel",
        good=V4 | {"allowedUses": ["Workload", "Tunnel"]},
        bad=V4 | {"allowedUses": ["Tunnel", "LoadBalancer"]},
        says=("spec.allowedUses", "allowedUses Tunnel, LoadBalancer: LoadBalancer excludes the others"),
    ),
    Case(
        "IPPool",
        "disableBGPExport true is not for allowedUses LoadBalancer",
        good=LB | {"disableBGPExport": False},
        bad=LB | {"disableBGPExport": True},
        says=("spec.disableBGPExport", "disableBGPExport true is not for allowedUses LoadBalancer"),
    ),
    Case(
        "IPPool",
        "nodeSelector must be all() for allowedUses LoadBalancer",
        good=LB | {"nodeSelector": "all()"},
        bad=LB | {"nodeSelector": "has(rack)"},
        says=("spec.nodeSelector", "nodeSelector has(rack) must be all() for allowedUses LoadBalancer"),
    ),
    Case(
        "IPPool",
        "namespaceSelector is not for allowedUses Tunnel",
        good=V4 | {"allowedUses": ["Workload"], "namespaceSelector": "has(a)"},
        bad=V4 | {"allowedUses": ["Workload", "Tunnel"], "namespaceSelector": "has(a)"},
        says=("spec.namespaceSelector", "namespaceSelector has(a) is not for allowedUses Tunnel"),
    ),
    Case(
        "IPPool",
        "nodeSelector must not use global()",
        good=V4 | {"nodeSelector": "all()"},
        bad=V4 | {"nodeSelector": "!global()"},
        says=("spec.nodeSelector", "nodeSelector !global() must not use global()"),
    ),
    Case(
        "IPPool",
        "namespaceSelector must not use global()",
        good=V4 | {"namespaceSelector": "all()"},
        bad=V4 | {"namespaceSelector": "global()"},
        says=("spec.namespaceSelector", "namespaceSelector global() must not use global()"),
    ),
    Case(
        "IPAMConfiguration",
        "autoAllocateBlocks false demands strictAffinity true",
        good=STRICT | {"autoAllocateBlocks": False},
        bad={"autoAllocateBlocks": False},
        says=("spec.autoAllocateBlocks", "autoAllocateBlocks false demands strictAffinity true"),
    ),
    Case(
        "IPAMConfiguration",
        "maxBlocksPerHost above 0 demands strictAffinity true",
        good=STRICT | {"maxBlocksPerHost": 3},
        bad={"maxBlocksPerHost": 3},
        says=("spec.maxBlocksPerHost", "maxBlocksPerHost 3 demands strictAffinity true"),
    ),
    Case(
        "IPAMConfiguration",
        "metadata.name must be default",
        good={},
        bad={},
        bad_name="mine",
        says=("metadata.name mine must be default",),
    ),
    Case(
        "ClusterInformation",
        "metadata.name must be default",
        good={},
        bad={},
        bad_name="mine",
        says=("metadata.name mine must be default",),
    ),
]
