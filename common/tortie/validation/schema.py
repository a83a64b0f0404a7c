"""Structural schemas of CRDs, as the API server applies them to an object: nulls that mean nothing are dropped,
defaults filled in, then every value is held to its type and its limits (apiextensions-apiserver)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tortie.policy.convert import Problem
from tortie.policy.convert.problems import shown
from tortie.validation.rules import is_cidr, search

Schema = Mapping[str, Any]
Value = Any

INT_OR_STRING, ANY_FIELDS = "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"


def unknown(schema: Schema, value: Value, path: str) -> Iterator[Problem]:
    """Fields that the schema does not have: kubectl refuses them, the API server by itself would drop them."""
    if isinstance(value, Mapping):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name, each in value.items():
            inner = known.get(name, rest)
            if isinstance(inner, Mapping):
                yield from unknown(inner, each, join(path, name))
            elif not (inner or schema.get(ANY_FIELDS)):
                yield Problem(join(path, name), shown(each), "there is no such field")
    elif isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from unknown(schema["items"], each, f"{path}[{index}]")


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def completed(schema: Schema, value: Value) -> Value:
    """With defaults, without nulls that stand for absence, and with whole numbers as floats where any number may be:
    CEL tells the two apart."""
    if isinstance(value, Mapping):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        found = {}
        for name, each in value.items():
            inner = known.get(name, rest)
            if not isinstance(inner, Mapping):
                found[name] = each
            elif each is not None or inner.get("nullable"):
                found[name] = completed(inner, each)
        for name, inner in known.items():
            if name not in found and "default" in inner:
                found[name] = completed(inner, inner["default"])
        return found
    if isinstance(value, list) and "items" in schema:
        return [completed(schema["items"], each) for each in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@dataclass(slots=True)
class Check:
    """What a value violates, found one after the other."""

    problems: list[Problem] = field(default_factory=list)
    unfit: bool = False
    """Whether something is missing, of a wrong type or too big: then the API server evaluates no rule of CEL, and a
    record cannot be made of it."""

    def say(self, path: str, value: Value, message: str, *, unfit: bool = False) -> None:
        self.problems.append(Problem(path, shown(value), message))
        self.unfit = self.unfit or unfit

    def check(self, schema: Schema, value: Value, path: str) -> None:
        if value is None and schema.get("nullable"):
            return
        if not _fits(schema, value):
            wanted = "integer or string" if schema.get(INT_OR_STRING) else schema["type"]
            self.say(path, value, f"must be of type {wanted}, not {_type(value)}", unfit=True)
            return
        if "enum" in schema and value not in schema["enum"]:
            self.say(path, value, f"must be one of {', '.join(map(shown, schema['enum']))}", unfit=True)
        if isinstance(value, str):
            self._text(schema, value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._number(schema, value, path)
        elif isinstance(value, list):
            self._list(schema, value, path)
        elif isinstance(value, Mapping):
            self._mapping(schema, value, path)
        for each in schema.get("allOf", ()):
            self.check(each, value, path)
        self._alternatives(schema.get("anyOf", ()), value, path)
        if "not" in schema:
            self._negation(schema["not"], value, path)

    def _alternatives(self, schemas: Sequence[Schema], value: Value, path: str) -> None:
        """Where none fits, the first says where, as the API server does it."""
        refusals = []
        for each in schemas:
            trial = Check()
            trial.check(each, value, path)
            if not trial.problems:
                return
            refusals.append(trial.problems[0])
        if refusals:
            message = ", or else ".join(dict.fromkeys(each.message for each in refusals))
            self.problems.append(Problem(refusals[0].field, refusals[0].value, message))

    def _negation(self, schema: Schema, value: Value, path: str) -> None:
        trial = Check()
        trial.check(schema, value, path)
        if not trial.problems:
            self.say(path, value, f"must not have {' and '.join(_required(schema))}")

    def _text(self, schema: Schema, value: str, path: str) -> None:
        if len(value) > schema.get("maxLength", len(value)):
            self.say(path, value, f"is longer than {schema['maxLength']} characters", unfit=True)
        if len(value) < schema.get("minLength", 0):
            self.say(path, value, f"must have at least {schema['minLength']} characters")
        if "pattern" in schema and not search(schema["pattern"], value):
            self.say(path, value, f"must match {schema['pattern']}")
        kind = schema.get("format", "")
        if kind in FORMATS and not FORMATS[kind](value):
            self.say(path, value, f"is no {'CIDR' if kind == 'cidr' else kind}", unfit=True)

    def _number(self, schema: Schema, value: float, path: str) -> None:
        if value < schema.get("minimum", value):
            self.say(path, value, f"must be at least {schema['minimum']}")
        if value > schema.get("maximum", value):
            self.say(path, value, f"must be at most {schema['maximum']}")
        bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
        if bits and not -(2**bits) <= value < 2**bits:
            self.say(path, value, f"is no {schema['format']}: it must be within ±{2**bits - 1}")

    def _list(self, schema: Schema, value: list[Value], path: str) -> None:
        if len(value) > schema.get("maxItems", len(value)):
            self.say(path, len(value), f"has more than {schema['maxItems']} items", unfit=True)
        if len(value) < schema.get("minItems", 0):
            self.say(path, value, f"must have at least {schema['minItems']} items")
        for index, each in enumerate(value):
            self.check(schema.get("items", {}), each, f"{path}[{index}]")
        self._duplicates(schema, value, path)

    def _duplicates(self, schema: Schema, value: list[Value], path: str) -> None:
        kind, names = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", ())
        if kind not in ("set", "map"):
            return
        seen: dict[str, int] = {}
        for index, each in enumerate(value):
            key = {name: each.get(name) for name in names} if kind == "map" and isinstance(each, Mapping) else each
            text = json.dumps(key, sort_keys=True)
            seen[text] = seen.get(text, 0) + 1
            if seen[text] == 2:
                self.say(f"{path}[{index}]", key, "is in the list already")

    def _mapping(self, schema: Schema, value: Mapping[str, Value], path: str) -> None:
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name in schema.get("required", ()):
            if name not in value:
                self.say(join(path, name), "", "is required", unfit=True)
        if len(value) > schema.get("maxProperties", len(value)):
            self.say(path, len(value), f"has more than {schema['maxProperties']} fields", unfit=True)
        if len(value) < schema.get("minProperties", 0):
            self.say(path, len(value), f"must have at least {schema['minProperties']} fields")
        for name, each in value.items():
            inner = known.get(name, rest)
            if isinstance(inner, Mapping):
                self.check(inner, each, join(path, name))


NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", type(None): "null"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": Mapping,
}


def _type(value: Value) -> str:
    return NAMES.get(type(value), "object")


def _fits(schema: Schema, value: Value) -> bool:
    if schema.get(INT_OR_STRING):
        return isinstance(value, int | str) and not isinstance(value, bool)
    if "type" not in schema:
        return True
    return isinstance(value, TYPES[schema["type"]]) and (schema["type"] == "boolean" or not isinstance(value, bool))


def _required(schema: Schema) -> Iterator[str]:
    yield from schema.get("required", ())
    for each in schema.get("anyOf", ()):
        yield from _required(each)


DATE_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[-+]\d\d:\d\d)"
)
FORMATS: dict[str, Callable[[str], bool]] = {
    "cidr": is_cidr,
    "date-time": lambda text: DATE_TIME.fullmatch(text) is not None,
}
