"""Names of Calico's objects of blocks."""

from __future__ import annotations

import hashlib


def object_name(cidr: str) -> str:
    """Name of an IPAMBlock: its CIDR with `-` for what a name must not have (Calico)."""
    return cidr.replace(".", "-").replace(":", "-").replace("/", "-")


def affinity_name(node: str, cidr: str) -> str:
    """Name of a BlockAffinity: as Calico's, cut to what Kubernetes allows in the way that Calico cuts."""
    full = f"{node}-{object_name(cidr)}"
    return full if len(full) <= 253 else f"{full[:236]}-{hashlib.sha256(full.encode()).hexdigest()[:16]}"
