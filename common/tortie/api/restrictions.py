"""What labels must be like for a selector to match at all, label by label (Calico: selector/parser, LabelRestriction).

Necessary, not sufficient: an index by them finds the few candidates, and the selector decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tortie.api.selector import And, Compare, Everything, Expression, Has, Member, Not, Or, Selector


@dataclass(frozen=True, slots=True)
class Restriction:
    """Of one label."""

    present: bool
    """False: the label must be absent."""
    values: frozenset[str] | None = None
    """The value must be one of these; None: any."""


Restrictions = Mapping[str, Restriction]

PRESENT, ABSENT = Restriction(True), Restriction(False)


def restrictions(selector: Selector) -> Restrictions | None:
    """By label; None: the selector matches nothing."""
    return _of(selector.expression, False)


def _of(expression: Expression, negated: bool) -> Restrictions | None:
    match expression:
        case Everything():
            return None if negated else {}
        case Has(key):
            return {key: ABSENT if negated else PRESENT}
        case Compare(key, "==" | "!=" as operator, value):
            return {key: Restriction(True, frozenset((value,)))} if (operator == "==") != negated else {}
        case Compare(key, _, _):
            return {} if negated else {key: PRESENT}
        case Member(key, values, within):
            if within == negated:
                return {}
            return {key: Restriction(True, values)} if values else None
        case Not(operand):
            return _of(operand, not negated)
        case And(operands) | Or(operands):
            parts = [_of(each, negated) for each in operands]
            return _all(parts) if isinstance(expression, And) != negated else _any(parts)


def _all(parts: list[Restrictions | None]) -> Restrictions | None:
    found: dict[str, Restriction] = {}
    for part in parts:
        if part is None:
            return None
        for key, restriction in part.items():
            both = _both(found[key], restriction) if key in found else restriction
            if both is None:
                return None
            found[key] = both
    return found


def _both(left: Restriction, right: Restriction) -> Restriction | None:
    if left.present != right.present:
        return None
    if left.values is None or right.values is None:
        return right if left.values is None else left
    values = left.values & right.values
    return Restriction(True, values) if values else None


def _any(parts: list[Restrictions | None]) -> Restrictions | None:
    """What every alternative asks for that can match at all."""
    possible = [part for part in parts if part is not None]
    if not possible:
        return None
    found: dict[str, Restriction] = {}
    for key in set.intersection(*(set(part) for part in possible)):
        asked = [part[key] for part in possible]
        if len({each.present for each in asked}) > 1:
            continue
        sets = [each.values for each in asked if each.values is not None]
        found[key] = Restriction(asked[0].present, frozenset().union(*sets) if len(sets) == len(asked) else None)
    return found
