"""What no CRD can say: selectors parse, a policy can be converted, names that an object refers to are in it. The
operator checks the same of what reached the API server anyway."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tortie.api.meta import Object
from tortie.api.policies import Profile
from tortie.api.selector import SelectorError, parse
from tortie.api.sets import GlobalNetworkSet, NetworkSet
from tortie.policy.build import records
from tortie.policy.convert import Policy, Problem, convert, network_set
from tortie.policy.convert.ignored import values
from tortie.policy.convert.problems import shown

Json = Mapping[str, Any]

SELECTORS: dict[str, tuple[str, ...]] = {
    "IPPool": ("spec.nodeSelector", "spec.namespaceSelector"),
    "BGPPeer": ("spec.nodeSelector", "spec.peerSelector", "spec.localWorkloadSelector"),
    "FelixConfiguration": ("spec.nodeSelector",),
    "KubeControllersConfiguration": ("spec.controllers.node.hostEndpoint.templates[].nodeSelector",),
}
"""Kind → fields that are selectors; those of policies are converted."""

COMMUNITY = re.compile(r"[0-9]+(:[0-9]+){1,2}")


def problems(document: Json) -> Iterator[Problem]:
    """Of an object as YAML or JSON has it, or as `msgspec.to_builtins` makes it of a record."""
    try:
        for record in records([document]):
            yield from of_record(record)
    except msgspec.ValidationError as error:
        yield Problem("", "", str(error))
    yield from _selectors(document)
    if document.get("kind") == "BGPConfiguration":
        yield from _communities(document)


def of_record(record: Object) -> tuple[Problem, ...]:
    if isinstance(record, Policy | Profile):
        return convert(record).errors
    if isinstance(record, NetworkSet | GlobalNetworkSet):
        return network_set(record)[1]
    return ()


def _selectors(document: Json) -> Iterator[Problem]:
    for field in SELECTORS.get(document.get("kind", ""), ()):
        for path, text in values(document, field.split("."), ""):
            try:
                parse(text)
            except SelectorError as error:
                yield Problem(path, text, f"character {error.position + 1}: {error.message}")


def _communities(document: Json) -> Iterator[Problem]:
    """Those of advertisements are values, or named in `communities`."""
    names = {name for _, name in values(document, ["spec", "communities[]", "name"], "")}
    for path, communities in values(document, ["spec", "prefixAdvertisements[]", "communities"], ""):
        for index, community in enumerate(communities):
            if not COMMUNITY.fullmatch(community) and community not in names:
                message = "must be 65001:100, 65001:100:200 or a name among spec.communities"
                yield Problem(f"{path}[{index}]", shown(community), message)
