"""Label restrictions and the indexes over them, against brute force over a small universe of labels."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.api.labelindex import LabelIndex, SelectorIndex
from tortie.api.restrictions import ABSENT, PRESENT, Restriction, restrictions
from tortie.api.selector import And, Compare, Everything, Has, Member, Not, Or, Selector, parse

KEYS, VALUES = ["a", "b", "c"], ["x", "y", "xy"]
EVERY = [
    {key: value for key, value in zip(KEYS, values, strict=True) if value is not None}
    for values in itertools.product([None, *VALUES], repeat=len(KEYS))
]
"""All 64 label sets of three labels with three values."""


def one_of(*values: str) -> Restriction:
    return Restriction(True, frozenset(values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all()", {}),
        ("!all()", None),
        ("has(a)", {"a": PRESENT}),
        ("!has(a)", {"a": ABSENT}),
        ("a == 'x'", {"a": one_of("x")}),
        ("a != 'x'", {}),
        ("!a != 'x'", {"a": one_of("x")}),
        ("a contains 'x'", {"a": PRESENT}),
        ("!a contains 'x'", {}),
        ("a in {'x', 'y'}", {"a": one_of("x", "y")}),
        ("a in {}", None),
        ("a not in {}", {}),
        ("!a not in {'x'}", {"a": one_of("x")}),
        ("a == 'x' && has(a) && !has(b)", {"a": one_of("x"), "b": ABSENT}),
        ("a == 'x' && a == 'y'", None),
        ("has(a) && !has(a)", None),
        ("a == 'x' || a == 'y'", {"a": one_of("x", "y")}),
        ("a == 'x' || has(a)", {"a": PRESENT}),
        ("a == 'x' || !has(a)", {}),
        ("a == 'x' || b == 'y'", {}),
        ("(a == 'x' && b == 'x') || (b in {'y'} && has(c))", {"b": one_of("x", "y")}),
        ("a == 'x' || !all()", {"a": one_of("x")}),
        ("!(has(a) || b != 'x')", {"a": ABSENT, "b": one_of("x")}),
        ("!(!has(a) && c == 'x')", {}),
    ],
)
def test_restrictions(text: str, expected: dict[str, Restriction] | None) -> None:
    assert restrictions(parse(text)) == expected


keys, values = st.sampled_from(KEYS), st.sampled_from([*VALUES, ""])
leaves = st.one_of(
    st.just(Everything("all()")),
    st.builds(Has, keys),
    st.builds(Compare, keys, st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]), values),
    st.builds(Member, keys, st.frozensets(values, max_size=3), st.booleans()),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
selectors = expressions.map(lambda expression: Selector(expression.canonical, expression))


@given(selectors)
@settings(max_examples=500, deadline=None)
def test_what_a_selector_matches_is_within_its_restrictions(selector: Selector) -> None:
    found = restrictions(selector)
    for labels in EVERY:
        if selector.matches(labels):
            assert found is not None
            for key, restriction in found.items():
                assert (key in labels) == restriction.present
                assert restriction.values is None or labels[key] in restriction.values


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), selectors)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_index_of_selectors_finds_what_brute_force_finds(history: list[tuple[int, Selector | None]]) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    current: dict[int, Selector] = {}
    for key, selector in history:
        if selector is None:
            index.remove(key)
            current.pop(key, None)
        else:
            index.put(key, selector)
            current[key] = selector
    for labels in EVERY:
        found = list(index.matching(labels))
        assert sorted(found) == sorted(key for key, selector in current.items() if selector.matches(labels))
    for key in list(current):
        index.remove(key)
    assert index._shelves == {}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, *EVERY])), max_size=12),
    st.lists(selectors, max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_the_index_of_labels_finds_what_brute_force_finds(
    history: list[tuple[int, dict[str, str] | None]], asked: list[Selector]
) -> None:
    index: LabelIndex[int] = LabelIndex()
    current: dict[int, dict[str, str]] = {}
    for key, labels in history:
        if labels is None:
            index.remove(key)
            current.pop(key, None)
        else:
            index.put(key, labels)
            current[key] = labels
    for selector in asked:
        found = list(index.matching(selector))
        assert sorted(found) == sorted(key for key, labels in current.items() if selector.matches(labels))
    for key in list(current):
        index.remove(key)
    assert index._shelves == {}


def test_ten_thousand_selectors_are_not_walked_for_one_pod(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    index: SelectorIndex[int] = SelectorIndex()
    for number in range(10_000):
        index.put(number, parse(f"app == 'svc-{number}' && has(tier) || app == 'all-{number % 100}' && !has(skip)"))
    pods = [{"app": f"svc-{random.randrange(10_000)}", "tier": "web", "env": "prod"} for _ in range(1000)]
    start = time.process_time()
    found = [list(index.matching(labels)) for labels in pods]
    seconds = (time.process_time() - start) / len(pods)
    with capsys.disabled():
        print(f"a pod's labels against 10,000 selectors: {seconds * 1e6:.1f} µs of CPU")
    assert [[f"svc-{key}" for key in keys] for keys in found] == [[labels["app"]] for labels in pods]
    assert seconds < 200e-6
