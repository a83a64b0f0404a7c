"""The selector language: Calico's grammar point by point, and properties over generated selectors."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.api.selector import And, Compare, Everything, Expression, Has, Member, Not, Or, SelectorError, parse

CANONICAL = {
    "": "all()",
    " \t ": "all()",
    "all( )": "all()",
    "global(\t)": "global()",
    "has( a/b.c-d_e )": "has(a/b.c-d_e)",
    "a=='b'": 'a == "b"',
    "a == 'say \"b\"'": "a == 'say \"b\"'",
    'a == "it\'s"': 'a == "it\'s"',
    "a != ''": 'a != ""',
    "a contains 'b'": 'a contains "b"',
    "a startswith 'b'": 'a starts with "b"',
    "a starts  \t with 'b'": 'a starts with "b"',
    "a ends with'b'": 'a ends with "b"',
    "a in{'c','b','c'}": 'a in {"b", "c"}',
    "a in { }": "a in {}",
    "a in {'b',}": 'a in {"b"}',
    "a notin {'b'}": 'a not in {"b"}',
    "a not in {'b'}": 'a not in {"b"}',
    "!has(a)": "!has(a)",
    "! !has(a)": "has(a)",
    "!! !has(a)": "!has(a)",
    "((has(a)))": "has(a)",
    "!(!has(a))": "has(a)",
    "!(!(!has(a)))": "!has(a)",
    "!a == 'b' && has(c)": '(!a == "b" && has(c))',
    "has(a) && has(b) || has(c)": "((has(a) && has(b)) || has(c))",
    "has(a) && (has(b) || has(c))": "(has(a) && (has(b) || has(c)))",
    "has(a)||has(b)||has(c)": "(has(a) || has(b) || has(c))",
    "!(has(a) || all())": "!(has(a) || all())",
    "in in {'in'}": 'in in {"in"}',
    "not not in {'x'}": 'not not in {"x"}',
    "has == 'x'": 'has == "x"',
    "contains contains 'x'": 'contains contains "x"',
    "a == 'new\nline'": 'a == "new\nline"',
    "a" * 512 + " == 'b'": "a" * 512 + ' == "b"',
}


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_canonical_form(text: str, canonical: str) -> None:
    assert parse(text).canonical == canonical
    assert parse(canonical) == parse(text)


REFUSED = {
    "a": 1,
    "a ==": 4,
    "a == b": 5,
    "a = 'b'": 2,
    "a == 'b": 5,
    "a == 'b' & has(c)": 9,
    "a == 'b' | has(c)": 9,
    "a == 'b' &&": 11,
    "(has(a)": 7,
    "has(a))": 6,
    "has(a) has(b)": 7,
    "has (a)": 4,
    "has(a": 5,
    "has()": 4,
    "has('a')": 4,
    "all(": 4,
    "all(x)": 4,
    "all": 3,
    "a in 'b'": 5,
    "a in {'b' 'c'}": 10,
    "a in {,}": 6,
    "a in {'b',,}": 10,
    "a in {'b'": 9,
    "a inx {'b'}": 2,
    "a containsx 'b'": 2,
    "a starts 'b'": 2,
    "a not {'b'}": 2,
    "!": 1,
    "has(a)\n": 6,
    "\nhas(a)": 0,
    "a == 'b' || ": 12,
    "ä == 'b'": 0,
    "'a' == 'b'": 0,
    "a" * 513 + " == 'b'": 0,
    "(" * 101 + "has(a)" + ")" * 101: 101,
}


@pytest.mark.parametrize(("text", "position"), REFUSED.items())
def test_refused_with_the_position(text: str, position: int) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert f"character {position + 1}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "present", "other", "missing"),
    [
        ("k == 'ab'", True, False, False),
        ("k != 'ab'", False, True, True),
        ("k contains 'b'", True, False, False),
        ("k contains ''", True, True, False),
        ("k starts with 'a'", True, False, False),
        ("k ends with 'b'", True, False, False),
        ("k in {'x', 'ab'}", True, False, False),
        ("k in {}", False, False, False),
        ("k not in {'x', 'ab'}", False, True, True),
        ("k not in {}", True, True, True),
        ("has(k)", True, True, False),
        ("!has(k)", False, False, True),
        ("all()", True, True, True),
        ("global()", True, True, True),
        ("", True, True, True),
        ("!all()", False, False, False),
        ("!has(k) || k == 'ab'", True, False, True),
        ("!k == 'ab' && has(k)", False, True, False),
    ],
)
def test_evaluation(text: str, present: bool, other: bool, missing: bool) -> None:
    selector = parse(text)
    assert [selector.matches(labels) for labels in ({"k": "ab"}, {"k": "c"}, {"j": "ab"})] == [present, other, missing]


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        (" (all() )", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("! (has( b)||! has(a ))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        ('! (a == "b"&&! c != "d")', "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w"),
    ],
)
def test_uid_is_calicos(text: str, uid: str) -> None:
    """Values as Calico's own tests have them."""
    assert parse(text).uid == uid


keys = st.sampled_from(["a", "b", "in", "not", "has", "all", "pcns.x/y", "c-d_e.f"])
values = st.one_of(st.sampled_from(["", "a", "b", "ab"]), st.text(max_size=6)).filter(
    lambda value: not ('"' in value and "'" in value)
)
terms = st.one_of(
    st.sampled_from([Everything("all()"), Everything("global()")]),
    st.builds(Has, keys),
    st.builds(Compare, keys, st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]), values),
    st.builds(Member, keys, st.frozensets(values, max_size=4), st.booleans()),
)
expressions = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)
labels = st.dictionaries(keys, values, max_size=5)


@given(expressions, st.lists(labels, min_size=1, max_size=5))
@settings(max_examples=500, deadline=None)
def test_canonical_form_is_a_fixpoint_and_means_the_same(expression: Expression, cases: list[dict[str, str]]) -> None:
    selector = parse(expression.canonical)
    assert parse(selector.canonical).canonical == selector.canonical
    assert parse(selector.canonical).uid == selector.uid
    for case in cases:
        assert selector.matches(case) == expression.matches(case)


@given(st.text(alphabet="ab!&|(){},'\"= \t\nhasinotlg", max_size=40))
@settings(max_examples=1000, deadline=None)
def test_any_text_parses_or_is_a_selector_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017
    else:
        assert parse(selector.canonical) == selector


def test_deepest_nesting_parses_and_evaluates() -> None:
    text = "!(" * 100 + "has(a) && has(b)" + ")" * 100
    assert parse(text).matches({"a": "", "b": ""})
    assert parse("!" * 10001 + "has(a)").canonical == "!has(a)"


def test_ten_thousand_selectors_parse_within_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    texts = [
        f"app == 'svc-{i}' && (tier in {{'web', 'db-{i % 7}'}} || !has(skip)) && env != '{random.random()}'"
        for i in range(10_000)
    ]
    start = time.process_time()
    uids = {parse(text).uid for text in texts}
    seconds = time.process_time() - start
    with capsys.disabled():
        print(f"10,000 selectors parsed, canonical and with id: {seconds:.3f} s of CPU")
    assert seconds < 1
    assert len(uids) == 10_000
