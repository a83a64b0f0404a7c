"""YAML and JSON into documents: values as kubectl has them, lines, and what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tortie.validation.documents import Document, documents


def one(text: str) -> Any:
    (document,) = documents(text, "a.yaml")
    assert document.problem is None, document.problem
    return document.value


def places(text: str) -> list[tuple[int, Any]]:
    return [(each.line, each.value) for each in documents(text, "a.yaml")]


def problems(text: str) -> list[tuple[int, str, str]]:
    return [(d.line, d.problem.value, d.problem.message) for d in documents(text, "a.yaml") if d.problem]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100:52", "100:52"),
        ("190:20:30.15", "190:20:30.15"),
        ("yes", True),
        ("Off", False),
        ("y", True),
        ("'yes'", "yes"),
        ("010", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("09", 9),
        ("1e3", 1000),
        ("1.0", 1),
        ("+12e03", 12000),
        (".5", 0.5),
        ("1e400", "1e400"),
        ("_1", "_1"),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("=", "="),
        ("!!str 5", "5"),
        ('!!int "5"', 5),
        ("!!float 3", 3),
        ("!own 5", "5"),
        ("'a\\b'", "a\\b"),
        ('"\\x41"', "A"),
        ("{yes: 1, 80: 2, 1.5: 3}", {"true": 1, "80": 2, "1.5": 3}),
        ("{<<: {a: 1, b: 2}, b: 3}", {"a": 1, "b": 3}),
        ("{<<: [{a: 1}, {a: 2, c: 3}]}", {"a": 1, "c": 3}),
    ],
)
def test_a_scalar_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    found = one(f"v: {text}")["v"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a", "this key is there already"),
        ("yes: 1\ntrue: 3", "true", "this key is there already"),
        ("a: .inf", ".inf", "JSON has no such number"),
        ("a: !!int x", "x", "is no int"),
        ("{~: 1}", "", "a key must be a string, a number or a boolean"),
        ("[a]: 1", "", "a key must be a string, a number or a boolean"),
        ("<<: 1", "<<", "only mappings can be merged"),
    ],
)
def test_what_has_no_meaning_is_named(text: str, value: str, message: str) -> None:
    assert problems(text) == [(text.count("\n") + 1, value, message)]


def test_a_document_with_an_error_hides_no_other() -> None:
    text = "a: 1\n--- # first\nb: [\n---\nc: 1\n"
    found = list(documents(text, "x.yaml"))
    assert [(each.line, each.value) for each in found] == [(1, {"a": 1}), (4, None), (5, {"c": 1})]
    assert found[1].problem is not None
    assert found[1].problem.message.startswith("is no YAML: ")


def test_documents_begin_where_their_first_key_is() -> None:
    text = "# about\n\na: 1\n---\n# only this\n---\n\nb: 2\n---\n--- {c: 3}\n...\n"
    assert places(text) == [(3, {"a": 1}), (8, {"b": 2}), (10, {"c": 3})]


def test_separators_within_a_text_are_none() -> None:
    assert one("a: |\n  x\n  ---\n  y\n") == {"a": "x\n---\ny\n"}


def test_items_of_a_list_have_lines_of_their_own_and_its_kind() -> None:
    text = "apiVersion: v1\nkind: PodList\nitems:\n- a: 1\n\n- kind: Own\n  a: 2\n"
    first, second = documents(text, "x")
    assert (first.line, first.value) == (4, {"apiVersion": "v1", "kind": "Pod", "a": 1})
    assert (second.line, second.value) == (6, {"apiVersion": "v1", "kind": "Own", "a": 2})


def test_an_object_with_items_that_is_no_list_stays_whole() -> None:
    assert one("kind: Menu\nitems: [1]") == {"kind": "Menu", "items": [1]}


def test_json_is_read_as_json() -> None:
    value = {"kind": "List", "apiVersion": "v1", "items": [{"a": "\U0001f600/"}, {"b": [1.5, None, True]}], "z": {}}
    for indent in (None, 1, "\t"):
        text = json.dumps(value, indent=indent) + "\n{}\n"
        found = list(documents(text, "x"))
        assert [each.value for each in found[:2]] == value["items"]
        assert found[2].value == {}
        for each in found if indent else ():
            assert text.splitlines()[each.line - 1].strip().startswith("{")
        assert [each.line for each in found] == sorted(each.line for each in found)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"x": {"a": 1, "a": 2}}', '{"items": [{"a": 1, "a": 1}]}'])
def test_json_with_a_key_twice_is_refused(text: str) -> None:
    assert problems(text) == [(1, "a", "this key is there already")]


def test_flow_style_that_is_no_json_is_yaml() -> None:
    assert one("{a: yes}") == {"a": True}
    assert problems('{"a": 1\n') != []


def test_a_text_of_nothing_has_no_documents() -> None:
    assert [list(documents(text, "x")) for text in ("", "\n", "# a\n", "---\n---\n")] == [[], [], [], []]


def test_what_is_no_object_is_still_a_document() -> None:
    assert list(documents("just text", "x")) == [Document("x", 1, "just text")]
