"""JSON documents with their places: several may follow each other, and of a list the place of each item counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BLANKS = re.compile(r"[ \t\r\n]*")


class Duplicate(ValueError):
    """A key that stands twice in an object."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} stands twice in an object")
        self.key = key


@dataclass(frozen=True)
class Part:
    start: int
    """Character of the text, from 0."""
    value: Any
    items: tuple[int, ...] = ()
    """Of an object that has a list `items`: where each of them begins."""


def parts(text: str) -> Iterator[Part]:
    """Raises json.JSONDecodeError and Duplicate."""
    at = _skip(text, 0)
    while at < len(text):
        part, end = _object(text, at) if text[at] == "{" else _value(text, at)
        yield part
        at = _skip(text, end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Duplicate(next(name for name in names if names.count(name) > 1))
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_unique)


def _value(text: str, at: int) -> tuple[Part, int]:
    value, end = _decoder.raw_decode(text, at)
    return Part(at, value), end


def _object(text: str, start: int) -> tuple[Part, int]:
    pairs: list[tuple[str, Any]] = []
    items: tuple[int, ...] = ()
    at = _skip(text, start + 1)
    while not pairs or text[at : at + 1] == ",":
        at = _expect(text, at, ",") if pairs else at
        if not pairs and text[at : at + 1] == "}":
            break
        key, at = _value(text, at)
        if not isinstance(key.value, str):
            raise json.JSONDecodeError("Expecting a name in quotes", text, key.start)
        at = _expect(text, at, ":")
        if key.value == "items" and text[at : at + 1] == "[":
            value, items, at = _list(text, at)
        else:
            part, at = _value(text, at)
            value = part.value
        pairs.append((key.value, value))
        at = _skip(text, at)
    return Part(start, _unique(pairs), items), _expect(text, at, "}")


def _list(text: str, start: int) -> tuple[list[Any], tuple[int, ...], int]:
    found: list[Part] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        at = _expect(text, at, ",") if found else at
        part, at = _value(text, at)
        found.append(part)
        at = _skip(text, at)
    return [part.value for part in found], tuple(part.start for part in found), at + 1


def _skip(text: str, at: int) -> int:
    match = BLANKS.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return _skip(text, at + 1)
