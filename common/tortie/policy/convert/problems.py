"""What is wrong with an object, by field and value."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from tortie.api.compiled import CompiledPolicySpec


@dataclass(frozen=True, slots=True)
class Problem:
    field: str
    """Path as in `spec.ingress[0].source.nets[1]`."""
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.value!r}: {self.message}"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A policy in the normal form, and what could not be taken as it was written."""

    spec: CompiledPolicySpec
    """Complete in any case: what was not understood is in it as something that fails closed. Without stamp."""
    errors: tuple[Problem, ...] = ()
    ignored: tuple[Problem, ...] = ()
    """Fields that have no effect here."""
    provisional: bool = False
    """Which endpoints the policy is for was not understood. An accepted version in force stays; only without one
    does `spec` hold, which selects the policy's namespace, and nothing if the policy is global."""


@dataclass(slots=True)
class Findings:
    """The errors found so far. Each fails the rule closed in which it is."""

    errors: list[Problem] = field(default_factory=list)

    def error(self, field: str, value: object, message: str) -> None:
        self.errors.append(Problem(field, shown(value), message))


def shown(value: object) -> str:
    """A value as YAML would have it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
