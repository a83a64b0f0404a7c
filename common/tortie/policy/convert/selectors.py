"""Selectors of the API's several fields, rewritten into one over effective labels (Calico: updateprocessors/rules.go).

Namespace labels have the prefix `pcns.` there, those of service accounts `pcsa.`. They are put together as expressions,
not as text, so that no quote or parenthesis in them changes what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from tortie.api.compiled import NOTHING
from tortie.api.networking import LabelSelector
from tortie.api.selector import (
    LABEL,
    And,
    Compare,
    Everything,
    Expression,
    Has,
    Member,
    Not,
    Or,
    SelectorError,
    parse,
)
from tortie.policy.convert.problems import Findings
from tortie.policy.labels import ACCOUNT, ACCOUNT_PREFIX, NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR

GLOBAL = Everything("global()")
IN_NAMESPACE, WITH_ACCOUNT = Has(NAMESPACE), Has(ACCOUNT)
KUBERNETES = Compare(ORCHESTRATOR, "==", "k8s")
"""Pods alone: no host endpoint and no network set has it."""


def own_namespace(namespace: str) -> Expression:
    return Compare(NAMESPACE, "==", namespace)


def canonical(expressions: Iterable[Expression]) -> str:
    """The canonical selector of all of them together."""
    operands: list[Expression] = []
    for each in expressions:
        operands.extend(each.operands if isinstance(each, And) else (each,))
    operands = list(dict.fromkeys(operands))
    return operands[0].canonical if len(operands) == 1 else And(tuple(operands)).canonical


def read(text: str, field: str, findings: Findings) -> Expression | None:
    """A selector as written; None if it does not parse, which is then an error."""
    try:
        return parse(text).expression
    except SelectorError as error:
        findings.error(field, text, f"character {error.position + 1}: {error.message}")
        return None


def rewritten(expression: Expression, prefix: str, replacements: Mapping[Expression, Expression]) -> Expression:
    """With a prefix before every label, and leaves replaced."""
    if expression in replacements:
        return replacements[expression]
    match expression:
        case Has(key):
            return Has(prefix + key)
        case Compare(key, operator, value):
            return Compare(prefix + key, operator, value)
        case Member(key, values, within):
            return Member(prefix + key, values, within)
        case Not(operand):
            return Not(rewritten(operand, prefix, replacements))
        case And(operands):
            return And(tuple(rewritten(each, prefix, replacements) for each in operands))
        case Or(operands):
            return Or(tuple(rewritten(each, prefix, replacements) for each in operands))
    return expression


def has_global(expression: Expression) -> bool:
    match expression:
        case Not(operand):
            return has_global(operand)
        case And(operands) | Or(operands):
            return any(map(has_global, operands))
    return expression == GLOBAL


EVERYTHING = Everything("all()")


class EndpointSelector(msgspec.Struct, frozen=True):
    """The fields of a policy that say which endpoints it applies to."""

    selector: str = ""
    service_accounts: str = ""
    namespaces: str = ""
    """Global policies only."""
    namespace: str = ""
    """Namespaced policies: their own."""


def endpoints(fields: EndpointSelector, findings: Findings) -> str | None:
    """The canonical selector of the endpoints; None if a part does not parse.

    Beside a namespace or service-account selector, `all()` means endpoints that have a namespace or an account.
    """
    given = {
        "spec.selector": fields.selector,
        "spec.namespaceSelector": fields.namespaces,
        "spec.serviceAccountSelector": fields.service_accounts,
    }
    parsed = {field: read(text, field, findings) for field, text in given.items() if text}
    for field, expression in parsed.items():
        if expression is not None and has_global(expression):
            findings.error(field, given[field], "global() is only for the namespaceSelector of a rule")
            parsed[field] = None
    if None in parsed.values():
        return None
    found = {field: expression for field, expression in parsed.items() if expression is not None}
    parts = [found["spec.selector"]] if fields.selector else []
    if fields.namespace:
        parts.append(own_namespace(fields.namespace))
    if fields.namespaces:
        parts.append(rewritten(found["spec.namespaceSelector"], NAMESPACE_PREFIX, {}))
        parts = [rewritten(part, "", {EVERYTHING: IN_NAMESPACE}) for part in parts]
    if fields.service_accounts:
        parts.append(rewritten(found["spec.serviceAccountSelector"], ACCOUNT_PREFIX, {}))
        if not fields.namespace:
            parts = [rewritten(part, "", {EVERYTHING: WITH_ACCOUNT}) for part in parts]
    return canonical(parts or [EVERYTHING])


def fallback(namespace: str) -> str:
    """For a policy whose endpoint selector is not understood: its namespace, and if global nothing."""
    return own_namespace(namespace).canonical if namespace else NOTHING


def labels(selector: LabelSelector, prefix: str, field: str, findings: Findings) -> list[Expression]:
    """Kubernetes' label selector: all of these must hold; none for an empty one."""
    parts: list[Expression] = []
    for key, value in sorted(selector.match_labels.items()):
        if _is_label(key, f"{field}.matchLabels", findings):
            parts.append(Compare(prefix + key, "==", value))
    for index, requirement in enumerate(selector.match_expressions):
        here = f"{field}.matchExpressions[{index}]"
        key, values = requirement.key, frozenset(requirement.values)
        if not _is_label(key, f"{here}.key", findings):
            continue
        match requirement.operator:
            case "In" | "NotIn":
                if not values:
                    findings.error(f"{here}.values", [], f"{requirement.operator} needs at least one value")
                parts.append(Member(prefix + key, values, requirement.operator == "In"))
            case "Exists" | "DoesNotExist":
                if values:
                    findings.error(f"{here}.values", sorted(values), f"{requirement.operator} takes no values")
                exists = Has(prefix + key)
                parts.append(exists if requirement.operator == "Exists" else Not(exists))
            case operator:
                findings.error(f"{here}.operator", operator, "must be In, NotIn, Exists or DoesNotExist")
    return parts


def _is_label(key: str, field: str, findings: Findings) -> bool:
    if LABEL.fullmatch(key):
        return True
    findings.error(field, key, "is no label key")
    return False
