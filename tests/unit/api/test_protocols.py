"""Protocols and ports as Calico reads them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.api.protocols import canonical_ports, port, protocol_name, protocol_number


@pytest.mark.parametrize(
    ("value", "number"), [("TCP", 6), ("ICMPv6", 58), ("UDPLite", 136), (1, 1), (255, 255), ("47", 47)]
)
def test_protocols(value: int | str, number: int) -> None:
    assert protocol_number(value) == number


@pytest.mark.parametrize("value", ["tcp", "", "any", 0, 256, -1, "0", "٤", "6.0"])
def test_what_is_no_protocol(value: int | str) -> None:
    with pytest.raises(ValueError, match="is no protocol"):
        protocol_number(value)


def test_names_of_protocols() -> None:
    assert [protocol_name(number) for number in (6, 136, 47)] == ["TCP", "UDPLite", "47"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (80, (80, 80)),
        ("80", (80, 80)),
        ("1:65535", (1, 65535)),
        ("http", "http"),
        ("a.b_c-d", "a.b_c-d"),
        ("80a", "80a"),
    ],
)
def test_ports(value: int | str, expected: tuple[int, int] | str) -> None:
    assert port(value) == expected


@pytest.mark.parametrize(
    "value", [0, 65536, -1, "0:5", "5:0", "9:8", "1:70000", "123456", "", "a b", "a" * 129, "80:", ":80"]
)
def test_what_is_no_port(value: int | str) -> None:
    with pytest.raises(ValueError, match="port"):
        port(value)


spans = st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.one_of(spans, st.sampled_from(["http", "dns"])), max_size=8))
def test_canonical_ports_cover_the_same_with_the_least_ranges(given_ports: list[tuple[int, int] | str]) -> None:
    found = canonical_ports(given_ports)
    parsed = [port(text) for text in found]
    numbers = [each for each in parsed if not isinstance(each, str)]
    covered = {number for first, last in numbers for number in range(first, last + 1)}
    wanted = {n for each in given_ports if not isinstance(each, str) for n in range(each[0], each[1] + 1)}
    assert covered == wanted
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(numbers))
    assert [each for each in parsed if isinstance(each, str)] == sorted({e for e in given_ports if isinstance(e, str)})
    assert canonical_ports(parsed) == found
