"""`metadata` of an object, as the API server holds it (apimachinery, pkg/api/validation/objectmeta.go)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tortie.policy.convert import Problem
from tortie.policy.convert.problems import shown
from tortie.validation.schema import join

FIELDS: dict[str, type] = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": dict,
    "annotations": dict,
    "finalizers": list,
    "ownerReferences": list,
    "managedFields": list,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "selfLink": str,
}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
ANNOTATIONS = 256 * 1024
"""Bytes of all of an object's annotations."""

AS_SUBDOMAIN = "must be lower case letters, digits, '-' and '.', at most 253 characters"
AS_VALUE = "must be empty or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
AS_KEY = "must be a name of at most 63 letters, digits, '-', '_' and '.', with or without a DNS name and '/' before it"


def problems(metadata: Any) -> Iterator[Problem]:
    if not isinstance(metadata, Mapping):
        yield Problem("metadata", shown(metadata), "must be of type object")
        return
    for name, value in metadata.items():
        if name not in FIELDS:
            yield Problem(f"metadata.{name}", shown(value), "there is no such field")
        elif value is not None and not isinstance(value, FIELDS[name]):
            yield Problem(f"metadata.{name}", shown(value), f"must be of type {_named(FIELDS[name])}")
    yield from _names(metadata)
    yield from _texts(metadata)


def _named(kind: type) -> str:
    return {str: "string", dict: "object", list: "array", int: "integer"}[kind]


def _names(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    name, prefix, namespace = (metadata.get(each) or "" for each in ("name", "generateName", "namespace"))
    if not name and not prefix:
        yield Problem("metadata.name", "", "is required")
    if isinstance(name, str) and name and not SUBDOMAIN.fullmatch(name):
        yield Problem("metadata.name", name, AS_SUBDOMAIN)
    if isinstance(namespace, str) and namespace and not LABEL.fullmatch(namespace):
        yield Problem("metadata.namespace", namespace, "must be at most 63 of a-z, 0-9 and '-'")


def _texts(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    for kind in ("labels", "annotations"):
        found = metadata.get(kind)
        if not isinstance(found, Mapping):
            continue
        for key, value in found.items():
            here = join(f"metadata.{kind}", key)
            if not isinstance(value, str | None):
                yield Problem(here, shown(value), "must be of type string: write it in quotes")
            elif not is_key(key if kind == "labels" else key.lower()):
                yield Problem(f"metadata.{kind}", key, AS_KEY)
            elif kind == "labels" and not is_value(value or ""):
                yield Problem(f"metadata.{kind}", value or "", AS_VALUE)
    notes = metadata.get("annotations")
    if isinstance(notes, Mapping):
        size = sum(len(key.encode()) + len(str(value).encode()) for key, value in notes.items())
        if size > ANNOTATIONS:
            yield Problem("metadata.annotations", f"{size} bytes", f"must be at most {ANNOTATIONS} bytes in all")


def is_key(text: str) -> bool:
    """Of a label."""
    prefix, slash, name = text.rpartition("/")
    return NAME.fullmatch(name) is not None and (not slash or SUBDOMAIN.fullmatch(prefix) is not None)


def is_value(text: str) -> bool:
    return not text or NAME.fullmatch(text) is not None
