"""Calico's selector language: parsing, canonical form, unique id and evaluation.

```
selector := (blank) | or                       a blank selector is all()
or       := and ( "||" and )*
and      := unary ( "&&" unary )*
unary    := "!"* primary
primary  := "has(" label ")" | "all(" ")" | "global(" ")" | "(" or ")"
          | label ( "==" | "!=" | "contains" | "starts with" | "ends with" ) string
          | label ( "in" | "not in" ) "{" [ string ( "," string )* [","] ] "}"
label    := [A-Za-z0-9_./-]{1,512}
string   := '"' no '"'* '"' | "'" no "'"* "'"   without escapes
```

Blanks are spaces and tabs only, and may be left out inside `not in`, `starts with`, `ends with`. Words mean operators
only after a label, so a label may be called `in` or `has`. (libcalico-go/lib/selector)
"""

from __future__ import annotations

import base64
import hashlib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Labels = Mapping[str, str]

MAX_DEPTH = 100
"""Nested parentheses; deeper ones could exhaust Python's stack."""


class SelectorError(ValueError):
    """A selector that does not parse. `position` counts characters from 0."""

    def __init__(self, text: str, position: int, message: str) -> None:
        super().__init__(f"selector {text!r}, character {position + 1}: {message}")
        self.text = text
        self.position = position
        self.message = message


@dataclass(frozen=True, slots=True)
class Everything:
    """`all()` and `global()`. The latter matches anything too: its meaning comes from rewriting rules' selectors."""

    canonical: str

    def matches(self, labels: Labels) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Has:
    key: str

    @property
    def canonical(self) -> str:
        return f"has({self.key})"

    def matches(self, labels: Labels) -> bool:
        return self.key in labels


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "contains": operator.contains,
    "starts with": str.startswith,
    "ends with": str.endswith,
}


@dataclass(frozen=True, slots=True)
class Compare:
    key: str
    operator: str
    value: str

    @property
    def canonical(self) -> str:
        return f"{self.key} {self.operator} {_quoted(self.value)}"

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        if value is None:
            return self.operator == "!="
        return COMPARISONS[self.operator](value, self.value)


@dataclass(frozen=True, slots=True)
class Member:
    key: str
    values: frozenset[str]
    within: bool
    """True for `in`, False for `not in`."""

    @property
    def canonical(self) -> str:
        values = ", ".join(map(_quoted, sorted(self.values)))
        return f"{self.key} {'in' if self.within else 'not in'} {{{values}}}"

    def matches(self, labels: Labels) -> bool:
        return (labels.get(self.key) in self.values) == self.within


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression

    @property
    def canonical(self) -> str:
        return f"!{self.operand.canonical}"

    def matches(self, labels: Labels) -> bool:
        return not self.operand.matches(labels)


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Expression, ...]

    @property
    def canonical(self) -> str:
        return f"({' && '.join(operand.canonical for operand in self.operands)})"

    def matches(self, labels: Labels) -> bool:
        return all(operand.matches(labels) for operand in self.operands)


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Expression, ...]

    @property
    def canonical(self) -> str:
        return f"({' || '.join(operand.canonical for operand in self.operands)})"

    def matches(self, labels: Labels) -> bool:
        return any(operand.matches(labels) for operand in self.operands)


Expression = Everything | Has | Compare | Member | Not | And | Or


@dataclass(frozen=True)
class Selector:
    """A parsed selector. Two selectors are equal if their canonical forms are."""

    canonical: str
    """Double quotes unless the value holds one, groups in parentheses, sets sorted. It parses to an equal selector."""
    expression: Expression = field(compare=False, repr=False)

    @cached_property
    def uid(self) -> str:
        """Calico's id of the selector's IP set: `s:` and base64url of SHA-224 over `s:` and the canonical form,
        unpadded (libcalico-go/lib/hash)."""
        digest = hashlib.sha224(b"s:" + self.canonical.encode()).digest()
        return "s:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def matches(self, labels: Labels) -> bool:
        return self.expression.matches(labels)


def parse(text: str) -> Selector:
    """Raises SelectorError."""
    expression = _Parser(text).selector()
    return Selector(expression.canonical, expression)


def _quoted(value: str) -> str:
    return f"'{value}'" if '"' in value else f'"{value}"'


BLANKS = re.compile(r"[ \t]*")
LABEL = re.compile(r"[A-Za-z0-9_./-]+")
MAX_LABEL = 512
FUNCTION = re.compile(r"(has|all|global)\(")
STRING = re.compile(r"\"([^\"]*)\"|'([^']*)'")
OPERATOR = re.compile(r"==|!=|(contains|in|not[ \t]*in|starts[ \t]*with|ends[ \t]*with)(?![A-Za-z0-9_./-])")
SPELLINGS = {"notin": "not in", "startswith": "starts with", "endswith": "ends with"}


class _Parser:
    """Recursive descent over the text; `position` is always at the next character that is not blank."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.position = 0
        self.skip(0)

    def selector(self) -> Expression:
        if self.position == len(self.text):
            return Everything("all()")
        expression = self.disjunction()
        if self.position < len(self.text):
            raise self.error("expected '&&', '||' or the end")
        return expression

    def disjunction(self) -> Expression:
        operands = [self.conjunction()]
        while self.take("||"):
            operands.append(self.conjunction())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def conjunction(self) -> Expression:
        operands = [self.unary()]
        while self.take("&&"):
            operands.append(self.unary())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def unary(self) -> Expression:
        negated = False
        while self.take("!"):
            negated = not negated
        expression = self.primary()
        if not negated:
            return expression
        return expression.operand if isinstance(expression, Not) else Not(expression)

    def primary(self) -> Expression:
        if match := self.match(FUNCTION):
            return self.function(match[1])
        if self.take("("):
            return self.group()
        key = self.label()
        match = self.match(OPERATOR)
        if match is None:
            raise self.error("expected an operator after the label (to test for its presence write has(…))")
        name = re.sub(r"[ \t]", "", match[0])
        name = SPELLINGS.get(name, name)
        if name in COMPARISONS:
            return Compare(key, name, self.string())
        return Member(key, self.strings(), name == "in")

    def group(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} nested parentheses")
        expression = self.disjunction()
        self.expect(")")
        self.depth -= 1
        return expression

    def function(self, name: str) -> Expression:
        expression = Has(self.label()) if name == "has" else Everything(f"{name}()")
        self.expect(")")
        return expression

    def label(self) -> str:
        start = self.position
        match = self.match(LABEL)
        if match is None:
            raise self.error("expected a label, has(…), all(), global(), '!' or '('")
        if len(match[0]) > MAX_LABEL:
            raise SelectorError(
                self.text, start, f"a label has at most {MAX_LABEL} characters, this one {len(match[0])}"
            )
        return match[0]

    def string(self) -> str:
        match = self.match(STRING)
        if match is None:
            raise self.error("expected a string in quotes")
        return match[1] if match[1] is not None else match[2]

    def strings(self) -> frozenset[str]:
        self.expect("{")
        values = []
        while not self.take("}"):
            values.append(self.string())
            if not self.take(","):
                self.expect("}")
                break
        return frozenset(values)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.position)
        if match:
            self.skip(match.end())
        return match

    def take(self, word: str) -> bool:
        if not self.text.startswith(word, self.position):
            return False
        self.skip(self.position + len(word))
        return True

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"expected {word!r}")

    def skip(self, position: int) -> None:
        match = BLANKS.match(self.text, position)
        self.position = match.end() if match else position

    def error(self, message: str) -> SelectorError:
        found = repr(self.text[self.position]) if self.position < len(self.text) else "the end"
        return SelectorError(self.text, self.position, f"{message}, found {found}")
