"""For every constraint of a schema, an example made wrong in that one place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .conftest import Json, definitions, examples, schema

Steps = tuple[str | int, ...]

LONGEST = 2048
"""A list that may be longer than this may hold more than an object can."""


@dataclass(frozen=True)
class Mutation:
    kind: str
    constraint: str
    at: Steps
    """Where the example is made wrong."""
    names: Steps
    """What the refusal names, above or below that."""
    bad: Json
    """The whole object."""
    says: str
    node: str
    """The schema that has the constraint, as JSON."""

    def __str__(self) -> str:
        return f"{self.kind} {dotted(self.names)} {self.constraint}"


def dotted(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def mutations() -> Iterator[Mutation]:
    """One for each constraint, once for those that several fields of the same name have from the same part."""
    seen: set[tuple[object, ...]] = set()
    schemas = {crd["spec"]["names"]["kind"]: schema(crd) for crd in definitions()}
    for example in examples():
        kind = example["kind"]
        for half in [half for half in ("spec", "status") if half in example]:
            for at, node, value in places(schemas[kind]["properties"][half], example[half], (half,)):
                text = json.dumps(node, sort_keys=True)
                for constraint, names, bad, says in wrong(node, value):
                    key = (at[-1] if isinstance(at[-1], str) else "[]", constraint, names, text)
                    if key not in seen:
                        seen.add(key)
                        yield Mutation(kind, constraint, at, at + names, replaced(example, at, bad), says, text)


def places(node: Json, value: Any, at: Steps) -> Iterator[tuple[Steps, Json, Any]]:
    """Every place of a value, with its schema."""
    yield at, node, value
    if isinstance(value, dict):
        for name, child in value.items():
            inner = node.get("properties", {}).get(name, node.get("additionalProperties"))
            yield from places(inner, child, (*at, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(node["items"], child, (*at, index))


def wrong(node: Json, value: Any) -> Iterator[tuple[str, Steps, Any, str]]:
    """Constraint, place that is named, value that breaks it, and what is said of it."""
    if "enum" in node:
        yield "enum", (), "no-such", "Unsupported value"
    either = node.get("x-kubernetes-int-or-string")
    if isinstance(value, str) or either:
        yield from _wrong_string(node)
    if (isinstance(value, int) and not isinstance(value, bool)) or either:
        yield from _wrong_number(node)
    if isinstance(value, list):
        yield from _wrong_list(node, value)
    if isinstance(value, dict):
        yield from _wrong_object(node, value)
    if value is not None:
        yield "type", (), "no-such" if isinstance(value, dict | list) else {"no": "such"}, "must be of type"


def _wrong_string(node: Json) -> Iterator[tuple[str, Steps, Any, str]]:
    if "maxLength" in node:
        yield "maxLength", (), "a" * (node["maxLength"] + 1), "Too long"
    if "minLength" in node:
        yield "minLength", (), "a" * (node["minLength"] - 1), "should be at least"
    for pattern in [each["pattern"] for each in (node, *node.get("allOf", ())) if "pattern" in each]:
        candidates = [text for text in ("", "!", "a b", "-") if not re.search(pattern, text)]
        if pattern != "^.*":
            yield f"pattern {pattern}", (), candidates[0], "should match"
    if "format" in node:
        yield "format", (), "no-such", f"must be of type {node['format']}"


def _wrong_number(node: Json) -> Iterator[tuple[str, Steps, Any, str]]:
    if "minimum" in node:
        yield "minimum", (), node["minimum"] - 1, "should be greater than or equal to"
    if "maximum" in node:
        yield "maximum", (), node["maximum"] + 1, "should be less than or equal to"
    elif node.get("format") == "int32":
        yield "format", (), 2**31, "int32"


def _wrong_list(node: Json, value: list[Any]) -> Iterator[tuple[str, Steps, Any, str]]:
    if node.get("maxItems", LONGEST + 1) <= LONGEST:
        yield "maxItems", (), value * (node["maxItems"] + 1), "Too many"
    if "minItems" in node:
        yield "minItems", (), [], "should have at least"
    if node.get("x-kubernetes-list-type") in ("set", "map"):
        yield "list type", (len(value),), [*value, value[0]], "Duplicate value"


def _wrong_object(node: Json, value: Json) -> Iterator[tuple[str, Steps, Any, str]]:
    for name in node.get("required", ()):
        if "default" in node["properties"][name]:
            continue
        yield "required", (name,), {key: each for key, each in value.items() if key != name}, "Required value"
    if "minProperties" in node:
        yield "minProperties", (), {}, "should have at least"
    if "maxProperties" in node:
        others = {name: {} for name in node["properties"]}
        yield "maxProperties", (), others | value, "Too many"


def replaced(example: Json, at: Steps, bad: Any) -> Json:
    whole = copy.deepcopy(example)
    place: Any = whole
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = bad
    return whole
