"""Fields that are accepted because Calico has them, and have no effect here: one table for the `FieldsIgnored` reason,
for warnings of `tortie validate` and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tortie.policy.convert.problems import Problem, shown

HTTP = "HTTP is not looked into: this rule counts as not understood, an Allow matches nothing"
IPTABLES = "there is no iptables dataplane"
OPENSTACK = "OpenStack is not supported"
XDP = "there is no XDP program"
GO = "tunes Go's runtime"

_RULES = {"spec.ingress[].http": HTTP, "spec.egress[].http": HTTP}

IGNORED: dict[str, dict[str, str]] = {
    "NetworkPolicy": _RULES,
    "GlobalNetworkPolicy": _RULES,
    "StagedNetworkPolicy": _RULES,
    "StagedGlobalNetworkPolicy": _RULES,
    "Profile": _RULES,
    "FelixConfiguration": {
        "spec.awsSrcDstCheck": "the source check of AWS is not touched",
        "spec.dataplaneDriver": "there is one dataplane",
        "spec.useInternalDataplaneDriver": "there is one dataplane",
        "spec.endpointReportingDelay": OPENSTACK,
        "spec.endpointReportingEnabled": OPENSTACK,
        "spec.metadataAddr": OPENSTACK,
        "spec.metadataPort": OPENSTACK,
        "spec.openstackRegion": OPENSTACK,
        "spec.reportingInterval": OPENSTACK,
        "spec.reportingTTL": OPENSTACK,
        "spec.genericXDPEnabled": XDP,
        "spec.xdpEnabled": XDP,
        "spec.xdpRefreshInterval": XDP,
        "spec.goGCThreshold": GO,
        "spec.goMaxProcs": GO,
        "spec.goMemoryLimitMB": GO,
        "spec.ipsetsRefreshInterval": "there are no IP sets",
        "spec.iptablesBackend": IPTABLES,
        "spec.iptablesFilterAllowAction": IPTABLES,
        "spec.iptablesFilterDenyAction": IPTABLES,
        "spec.iptablesLockProbeInterval": IPTABLES,
        "spec.iptablesMangleAllowAction": IPTABLES,
        "spec.iptablesMarkMask": IPTABLES,
        "spec.iptablesNATOutgoingInterfaceFilter": IPTABLES,
        "spec.iptablesPostWriteCheckInterval": IPTABLES,
        "spec.iptablesRefreshInterval": IPTABLES,
        "spec.maxIpsetSize": "there are no IP sets",
        "spec.usageReportingEnabled": "nothing is reported to anybody",
        "spec.usageReportingInitialDelay": "nothing is reported to anybody",
        "spec.usageReportingInterval": "nothing is reported to anybody",
        "spec.windowsManageFirewallRules": "Windows is not supported",
    },
}
"""Kind → path of the field → why."""


def ignored(document: Mapping[str, Any]) -> tuple[Problem, ...]:
    """The ignored fields that a document has, as it came from YAML or JSON."""
    return tuple(
        Problem(path, shown(value), why)
        for field, why in IGNORED.get(document.get("kind", ""), {}).items()
        for path, value in values(document, field.split("."), "")
    )


def values(node: Any, names: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """What is at a path in a document; `name[]` goes through a list."""
    if not names:
        yield path, node
        return
    name, several = names[0].removesuffix("[]"), names[0].endswith("[]")
    if not isinstance(node, Mapping) or node.get(name) is None:
        return
    here = f"{path}.{name}" if path else name
    if not several:
        yield from values(node[name], names[1:], here)
    elif isinstance(node[name], (list, tuple)):
        for index, item in enumerate(node[name]):
            yield from values(item, names[1:], f"{here}[{index}]")
