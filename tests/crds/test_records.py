"""Records and CRDs describe the same objects: what a record knows the API server keeps, and the other way round."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import tortie.api
from tortie.api import calico
from tortie.api.meta import Condition, Metadata, Object, Record

from .conftest import Cluster, Json, collection, definitions, examples, fields, schema

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
PARTIAL = {"FelixConfiguration"}
"""Records that know only some of the CRD's fields."""

NAMES = {"IPAMConfiguration", "ClusterInformation"}
"""Kinds whose only object is named `default`."""

EXAMPLES = examples()
EXAMPLED = {each["kind"] for each in EXAMPLES}

BEYOND = {
    "ClusterNetworkPolicy": {
        ".spec.egress[].to[].domainNames",
        ".spec.egress[].to[].nodes",
        ".spec.ingress[].from[].domainNames",
        ".spec.ingress[].from[].networks",
        ".spec.ingress[].from[].nodes",
    }
}
"""Fields that a record knows from another channel of the kind, or has from a record that it shares."""


def found_records() -> dict[str, type[Object]]:
    """The records of the kinds that have a CRD, by kind."""
    for module in pkgutil.iter_modules(tortie.api.__path__, "tortie.api."):
        importlib.import_module(module.name)
    versions = {kind: f"{crd['spec']['group']}/{crd['spec']['versions'][0]['name']}" for kind, crd in BY_KIND.items()}
    found = {}
    for record in Object.__subclasses__():
        defaults = {info.name: info.default for info in msgspec.structs.fields(record)}
        if versions.get(defaults["kind"]) == defaults["api_version"]:
            found[defaults["kind"]] = record
    return found


RECORDS = found_records()


def below(record: type[Record], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its path on the wire and its type; list items are `[]`, map values `{}`."""
    hints = typing.get_type_hints(record)
    for info in msgspec.structs.fields(record):
        here, kind = f"{path}.{info.encode_name}", _present(hints[info.name])
        yield here, kind
        while typing.get_origin(kind) in (tuple, dict):
            arguments = typing.get_args(kind)
            here, kind = (
                (f"{here}[]", arguments[0]) if typing.get_origin(kind) is tuple else (f"{here}{{}}", arguments[1])
            )
            kind = _present(kind)
        if isinstance(kind, type) and issubclass(kind, Record):
            yield from below(kind, here)


def _present(kind: Any) -> Any:
    """`T | None` without None."""
    if isinstance(kind, types.UnionType):
        left = [each for each in typing.get_args(kind) if each is not type(None)]
        return left[0] if len(left) == 1 else kind
    return kind


TYPES = {str: "string", int: "integer", bool: "boolean", float: "number", tuple: "array", dict: "object"}


def type_name(kind: Any) -> str | None:
    """OpenAPI type of a Python type; None: int or string."""
    if isinstance(kind, types.UnionType):
        return None
    if isinstance(kind, type) and issubclass(kind, Record):
        return "object"
    return TYPES[typing.get_origin(kind) or kind]


def test_every_kind_that_is_used_has_a_record() -> None:
    unused = {"BGPConfiguration", "BGPFilter", "BGPPeer", "CalicoNodeStatus", "KubeControllersConfiguration"}
    assert BY_KIND.keys() - RECORDS.keys() <= unused


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_record_and_schema_have_the_same_fields(kind: str) -> None:
    own = {"apiVersion", "kind", "metadata"}
    known = {path: t for path, t in below(RECORDS[kind]) if path.split(".")[1].rstrip("[]{}") not in own}
    known = {path: t for path, t in known.items() if not path.startswith(tuple(BEYOND.get(kind, ("no such",))))}
    served = dict(fields(schema(BY_KIND[kind])))
    assert known.keys() - served.keys() == set()
    if kind not in PARTIAL:
        assert served.keys() - known.keys() == set()
    for path, expected in known.items():
        assert served[path].get("type") == type_name(expected), path


def filled(record: type[Record]) -> Record:
    """An instance without a default value anywhere."""
    hints = typing.get_type_hints(record)
    return record(
        **{info.name: value_of(info.encode_name, hints[info.name]) for info in msgspec.structs.fields(record)}
    )


WORDS = {"cidr": "10.1.0.0/16", "state": "confirmed", "status": "True"}
TIMES = {"heartbeat", "releasedAt", "affinityClaimTime", "lastTransitionTime"}


def value_of(name: str, kind: Any) -> Any:
    kind = _present(kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return (value_of(name, typing.get_args(kind)[0]),)
    if origin is dict:
        return {"1": value_of(name, typing.get_args(kind)[1])}
    if isinstance(kind, types.UnionType):
        return "4000:5000"
    if issubclass(kind, Record):
        return filled(kind)
    if kind is str:
        return "2026-01-01T00:00:00Z" if name in TIMES else WORDS.get(name, "other")
    return {int: 27, float: 2.5, bool: True}[kind]


@pytest.mark.parametrize("kind", sorted(RECORDS.keys() - EXAMPLED))
def test_a_full_record_comes_back_as_it_was_written(applied: Cluster, kind: str) -> None:
    record = RECORDS[kind]
    hints = typing.get_type_hints(record)
    spec = filled(hints["spec"])
    metadata = Metadata(name="full")
    written = record(metadata=metadata, spec=spec)
    path = collection(BY_KIND[kind])
    code, answer = applied.request("POST", f"{path}?fieldValidation=Strict", msgspec.to_builtins(written))
    assert code == 201, answer["message"]
    try:
        read = msgspec.convert(answer, record)
        assert read.spec == spec
        if "status" in hints:
            status = filled(hints["status"])
            body = msgspec.to_builtins(msgspec.structs.replace(read, status=status))
            apart = "/status" if "subresources" in BY_KIND[kind]["spec"]["versions"][0] else ""
            code, answer = applied.request("PUT", f"{path}/{metadata.name}{apart}?fieldValidation=Strict", body)
            assert code == 200, answer["message"]
            assert msgspec.convert(answer, record).status == status
    finally:
        applied.request("DELETE", f"{path}/{metadata.name}")


@pytest.mark.parametrize(
    "example",
    [each for each in EXAMPLES if each["kind"] in RECORDS],
    ids=lambda each: f"{each['kind']} {each['metadata']['name']}",
)
def test_an_example_comes_back_from_its_record_as_it_was_written(applied: Cluster, example: Json) -> None:
    kind = example["kind"]
    read = msgspec.convert(example, RECORDS[kind])
    path = f"{collection(BY_KIND[kind])}?dryRun=All&fieldValidation=Strict"
    code, answer = applied.request("POST", path, msgspec.to_builtins(read))
    assert code == 201, answer["message"]
    assert msgspec.convert(answer, RECORDS[kind]).spec == read.spec


def least(record: type[Record]) -> dict[str, Any]:
    """The required fields alone."""
    hints = typing.get_type_hints(record)
    return {
        info.name: value_of(info.encode_name, hints[info.name])
        for info in msgspec.structs.fields(record)
        if info.required
    }


@pytest.mark.parametrize("kind", sorted(RECORDS.keys() - {"ClusterNetworkPolicy", "HostEndpoint"}))
def test_a_record_with_its_required_fields_alone_is_accepted(applied: Cluster, kind: str) -> None:
    """Records leave their defaults out, so that a field that the CRD requires must not have one, unless the CRD has.

    The kinds left out need one of several fields.
    """
    record = RECORDS[kind]
    spec = typing.get_type_hints(record)["spec"]
    written = record(metadata=Metadata(name="default" if kind in NAMES else "least"), spec=spec(**least(spec)))
    path = f"{collection(BY_KIND[kind])}?dryRun=All"
    code, answer = applied.request("POST", path, msgspec.to_builtins(written))
    assert code == 201, answer["message"]
    assert msgspec.convert(answer, record).spec == written.spec


def test_a_condition_without_a_message_is_accepted(applied: Cluster) -> None:
    condition = Condition(type="Allocatable", status="True", reason="OK", last_transition_time="2026-01-01T00:00:00Z")
    pool = calico.IPPool(metadata=Metadata(name="quiet"), spec=calico.IPPoolSpec(cidr="10.9.0.0/16"))
    path = collection(BY_KIND["IPPool"])
    assert applied.request("POST", path, msgspec.to_builtins(pool))[0] == 201
    body = {"status": msgspec.to_builtins(calico.IPPoolStatus(conditions=(condition,)))}
    code, answer = applied.request("PATCH", f"{path}/quiet/status", body, "merge-patch+json")
    applied.request("DELETE", f"{path}/quiet")
    assert code == 200, answer["message"]
    assert msgspec.convert(answer, calico.IPPool).status.conditions == (condition,)
