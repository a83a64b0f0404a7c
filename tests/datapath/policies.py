"""Policy for tests that are about something else, and clusters written as YAML."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import yaml

from tortie.nodeagent.desired import DatapathEndpoint
from tortie.nodeagent.policy.image import Image, image
from tortie.policy.build import build, records
from tortie.policy.cluster import Cluster, Endpoint
from tortie.policy.convert import DEFAULT_ALLOW, profile_name

OPEN = profile_name(DEFAULT_ALLOW.source)


def permissive(endpoints: Iterable[DatapathEndpoint]) -> Image:
    """Everybody may do everything."""
    local = {
        each.ifname: Endpoint(
            name=f"test/{each.ifname}",
            node="n1",
            labels={},
            addresses=tuple(ipaddress.ip_address(text) for text in (each.ipv4, each.ipv6) if text),
            profiles=(OPEN,),
        )
        for each in endpoints
    }
    return image(Cluster(endpoints=tuple(local.values()), profiles={OPEN: DEFAULT_ALLOW}), local)


def cluster(text: str) -> Cluster:
    made, findings = build(records(yaml.safe_load_all(text)))
    assert not findings
    return made
