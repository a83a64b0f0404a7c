"""Selectors as trees: rendered as text for the objects, and read by the oracles without tortie's parser."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Tree = tuple[Any, ...]

TREES: dict[str, Tree] = {}
"""Text of every selector that was drawn → its tree."""


def text(tree: Tree) -> str:
    match tree:
        case ("all",):
            return "all()"
        case ("global",):
            return "global()"
        case ("has", key):
            return f"has({key})"
        case ("==" | "!=" as operator, key, value):
            return f"{key} {operator} '{value}'"
        case ("in" | "not in" as operator, key, values):
            return f"{key} {operator} {{{', '.join(repr(value) for value in values)}}}"
        case ("!", operand):
            return f"!({text(operand)})"
        case ("&&" | "||" as operator, left, right):
            return f"({text(left)}) {operator} ({text(right)})"
    raise AssertionError(tree)


def holds(tree: Tree, labels: dict[str, str], everything: bool = True) -> bool:
    """`everything`: what all() means there."""
    match tree:
        case ("all",):
            return everything
        case ("has", key):
            return key in labels
        case ("==", key, value):
            return labels.get(key) == value
        case ("!=", key, value):
            return labels.get(key) != value
        case ("in", key, values):
            return key in labels and labels[key] in values
        case ("not in", key, values):
            return key not in labels or labels[key] not in values
        case ("!", operand):
            return not holds(operand, labels, everything)
        case ("&&", left, right):
            return holds(left, labels, everything) and holds(right, labels, everything)
        case ("||", left, right):
            return holds(left, labels, everything) or holds(right, labels, everything)
    raise AssertionError(tree)


def selectors(keys: list[str], values: list[str]) -> st.SearchStrategy[str]:
    key, value = st.sampled_from(keys), st.sampled_from(values)
    leaves = st.one_of(
        st.just(("all",)),
        st.tuples(st.just("has"), key),
        st.tuples(st.sampled_from(["==", "!="]), key, value),
        st.tuples(st.sampled_from(["in", "not in"]), key, st.lists(value, max_size=2).map(tuple)),
    )
    trees = st.one_of(
        leaves,
        leaves,
        st.tuples(st.just("!"), leaves),
        st.tuples(st.sampled_from(["&&", "||"]), leaves, st.one_of(leaves, st.tuples(st.just("!"), leaves))),
    )
    return trees.map(_known)


def _known(tree: Tree) -> str:
    rendered = text(tree)
    TREES[rendered] = tree
    return rendered


TREES.update({"global()": ("global",), "all()": ("all",), "has(host)": ("has", "host")})
