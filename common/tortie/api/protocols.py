"""Protocols and ports as Calico and Kubernetes write them, as numbers and canonical strings."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
"""IANA numbers of the protocols that Calico has names for."""

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132

WITH_PORTS = frozenset((TCP, UDP, SCTP))
"""Protocols whose ports rules may name."""

PORT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
RANGE = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?")

Span = tuple[int, int]
"""First and last port, both included."""


def protocol_number(value: int | str) -> int:
    """Number of a protocol given by name or number. Raises ValueError."""
    if isinstance(value, str) and value in NUMBERS:
        return NUMBERS[value]
    if isinstance(value, int) or (value.isascii() and value.isdecimal()):
        number = int(value)
        if 1 <= number <= 255:
            return number
    raise ValueError(f"is no protocol: neither a number from 1 to 255 nor one of {', '.join(NUMBERS)}")


def protocol_name(number: int) -> str:
    """Calico's name of a protocol, or its number as text."""
    return next((name for name, known in NUMBERS.items() if known == number), str(number))


def port(value: int | str) -> Span | str:
    """A port: a span of numbers for `80` and `8000:8999`, else a name. Raises ValueError."""
    text = str(value)
    match = RANGE.fullmatch(text)
    if match is None:
        if isinstance(value, int) or text.isdecimal() or not PORT_NAME.fullmatch(text):
            raise ValueError("is no port: neither 80, 8000:8999 nor a name of letters, digits and '_', '.', '-'")
        return text
    first, last = int(match[1]), int(match[2] or match[1])
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise ValueError("ports are numbers from 1 to 65535")
    if first > last:
        raise ValueError("the first port of the range is above the last")
    return first, last


def canonical_ports(ports: Iterable[Span | str]) -> tuple[str, ...]:
    """The least number of ranges in ascending order, then the names in theirs."""
    merged: list[list[int]] = []
    names = set()
    spans = []
    for each in ports:
        if isinstance(each, str):
            names.add(each)
        else:
            spans.append(each)
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    numbers = (str(first) if first == last else f"{first}:{last}" for first, last in merged)
    return (*numbers, *sorted(names))
