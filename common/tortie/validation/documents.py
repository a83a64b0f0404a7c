"""YAML and JSON as kubectl reads them: what `100:52`, `yes`, `010` or a date means is decided by go-yaml v2
(sigs.k8s.io/yaml), whose syntax is libyaml's. One thing is stricter: a key that stands twice is an error, where kubectl
silently takes the last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from tortie.policy.convert import Problem
from tortie.validation.jsontext import Duplicate, parts

Value = Any


@dataclass(frozen=True)
class Document:
    """An object of a file; of a list each item is one."""

    file: str
    line: int
    """Where it begins, from 1; of a problem with the syntax, where that is."""
    value: Value = None
    problem: Problem | None = None
    """Why there is no value."""


def documents(text: str, file: str) -> Iterator[Document]:
    """Documents that hold nothing but comments are left out, as kubectl does."""
    if text.lstrip().startswith("{"):
        try:
            yield from list(_json(text, file))
            return
        except Duplicate as error:
            yield Document(file, 1, problem=Problem("", error.key, "this key is there already"))
            return
        except json.JSONDecodeError:
            pass  # then it is YAML that begins like JSON
    for first, part in _yaml_parts(text):
        yield from _documents(part, first, file)


def _json(text: str, file: str) -> Iterator[Document]:
    for part in parts(text):
        lines = [text.count("\n", 0, part.start) + 1]
        for before, after in pairwise((part.start, *part.items)):
            lines.append(lines[-1] + text.count("\n", before, after))
        yield from _objects(part.value, lines[0], lines[1:], file)


SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)


def _yaml_parts(text: str) -> Iterator[tuple[int, str]]:
    """Each document by itself, with the number of lines before it, so that one with an error hides no other."""
    starts = [0, *(match.start() for match in SEPARATOR.finditer(text)), len(text)]
    line = 0
    for start, end in pairwise(starts):
        yield line, text[start:end]
        line += text.count("\n", start, end)


class _Loader(yaml.CSafeLoader):
    """Composes nodes only; plain scalars without a tag have the tag PLAIN, whatever they look like."""

    yaml_implicit_resolvers = {None: [("plain", re.compile(""))], "": [("plain", re.compile(""))]}


PLAIN = "plain"
TAG = "tag:yaml.org,2002:"


class _Unreadable(Exception):
    def __init__(self, node: yaml.Node, value: str, message: str) -> None:
        super().__init__(message)
        self.line: int = node.start_mark.line
        self.problem = Problem("", value, message)


def _documents(text: str, first: int, file: str) -> Iterator[Document]:
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            yield from _node(node, first, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first + (mark.line if mark else 0) + 1
        said = "; ".join(part for part in (error.context, error.problem) if part)
        yield Document(file, line, problem=Problem("", "", f"is no YAML: {said}"))
    except yaml.YAMLError as error:
        yield Document(file, first + 1, problem=Problem("", "", f"is no YAML: {' '.join(str(error).split())}"))


def _objects(value: Value, line: int, items: list[int], file: str) -> Iterator[Document]:
    """The object, or those of a list, whose items begin at lines of their own."""
    kind = str(value.get("kind") or "") if isinstance(value, dict) else ""
    if not kind.endswith("List") or not isinstance(value.get("items"), list):
        if value is not None:
            yield Document(file, line, value)
        return
    kind = kind.removesuffix("List")
    head = {"apiVersion": value.get("apiVersion"), "kind": kind} if kind else {}
    for place, item in zip(items, value["items"], strict=True):
        yield Document(file, place, {**head, **item} if isinstance(item, dict) else item)


def _node(node: yaml.Node, first: int, file: str) -> Iterator[Document]:
    try:
        value = plain(node)
    except _Unreadable as error:
        yield Document(file, first + error.line + 1, problem=error.problem)
        return
    items = [first + item.start_mark.line + 1 for item in _items(node)]
    yield from _objects(value, first + node.start_mark.line + 1, items, file)


def _items(node: yaml.Node) -> list[yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return []
    found = next((value for key, value in node.value if key.value == "items"), None)
    return found.value if isinstance(found, yaml.SequenceNode) else []


def plain(node: yaml.Node) -> Value:
    """The value of a node as JSON has it. Raises _Unreadable."""
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [plain(each) for each in node.value]
    found: dict[str, Value] = {}
    merged: dict[str, Value] = {}
    for key, child in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag == PLAIN and key.value == "<<":
            merged = {**_merged(child), **merged}
            continue
        name = _key(key)
        if name in found:
            raise _Unreadable(key, name, "this key is there already")
        found[name] = plain(child)
    return {**merged, **found}


def _merged(node: yaml.Node) -> dict[str, Value]:
    """Of several the first wins."""
    value = plain(node)
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise _Unreadable(node, "<<", "only mappings can be merged")
    return {key: each for part in reversed(parts) for key, each in part.items()}


def _key(node: yaml.Node) -> str:
    """Go's names for what is no string: `on:` is the key `true`."""
    value = plain(node) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _Unreadable(node, "", "a key must be a string, a number or a boolean")


BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
NULLS = ("", "~", "null", "Null", "NULL")
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
EXACT = 10**21
"""Go writes whole numbers below it as integers when it turns YAML into JSON."""


def _scalar(node: yaml.ScalarNode) -> Value:
    text: str = node.value
    tag = node.tag.removeprefix(TAG)
    if tag not in (PLAIN, "null", "bool", "int", "float"):
        return text
    value = _resolved(node, text)
    kinds = {"null": type(None), "bool": bool, "int": int, "float": int | float}
    if tag != PLAIN and (not isinstance(value, kinds[tag]) or (tag != "bool" and isinstance(value, bool))):
        raise _Unreadable(node, text, f"is no {tag}")
    return value


def _resolved(node: yaml.ScalarNode, text: str) -> Value:
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if INFINITE.fullmatch(text):
        raise _Unreadable(node, text, "JSON has no such number")
    number = text.replace("_", "") if text[0] in "+-.0123456789" else ""
    if INTEGER.fullmatch(number):
        return _integer(number)
    if FLOAT.fullmatch(number):
        value = float(number)
        if value in (float("inf"), float("-inf")):
            return text
        return int(value) if value.is_integer() and abs(value) < EXACT else value
    return text


def _integer(text: str) -> int:
    """As strconv.ParseInt with base 0: a leading zero means octal."""
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdecimal():
        return sign * int(digits, 8)
    return sign * int(digits, 0)
