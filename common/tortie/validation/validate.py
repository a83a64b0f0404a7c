"""Documents → what is wrong with each, and what is legal but surely not meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tortie.api.meta import Record
from tortie.policy import expectations
from tortie.policy.convert import Problem
from tortie.policy.convert.problems import shown
from tortie.validation import hints, kubernetes, metadata, rules, schema, semantics
from tortie.validation.documents import Document

Json = Mapping[str, Any]


class Finding(Record, omit_defaults=False):
    field: str
    """Such as `spec.ingress[0].source.nets[1]`; empty: the document."""
    value: str
    message: str


class Report(Record, omit_defaults=False):
    """Of one document."""

    file: str
    line: int
    kind: str
    namespace: str
    name: str
    valid: bool
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class Admission:
    problems: tuple[Problem, ...]
    whole: Json | None = None
    """The object with its defaults and without its status; None if it does not fit its schema, or is none."""


class Validator:
    """`definitions`: CustomResourceDefinitions, as YAML has them."""

    def __init__(self, definitions: Iterable[Json]) -> None:
        self._versions: dict[tuple[str, str], Json] = {}
        self._groups: dict[str, set[str]] = {}
        for crd in definitions:
            spec = crd["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    api_version = f"{spec['group']}/{version['name']}"
                    self._versions[api_version, spec["names"]["kind"]] = {"scope": spec["scope"], **version}
                    self._groups.setdefault(spec["group"], set()).add(api_version)

    def reports(self, documents: Iterable[Document]) -> list[Report]:
        """In the order of the documents. Warnings look at all of them: what one policy denies another may allow."""
        given = [(document, self._judged(document)) for document in documents]
        neighbours = hints.Neighbours(one.whole for _, one in given if one.whole is not None and not one.problems)
        reports = []
        for document, one in given:
            warnings = self._warnings(one.whole, neighbours) if one.whole is not None and not one.problems else ()
            reports.append(_report(document, one.problems, warnings))
        return reports

    def _judged(self, document: Document) -> Admission:
        if document.problem:
            return Admission((document.problem,))
        admission = self.admission(document.value)
        if admission.whole is None:
            return admission
        return Admission((*admission.problems, *_beyond(admission.whole, admission.problems)), admission.whole)

    def admission(self, value: Any) -> Admission:
        """What the API server makes of an object."""
        if not isinstance(value, Mapping):
            return Admission((Problem("", shown(value), "is no object with apiVersion and kind"),))
        missing = [name for name in ("apiVersion", "kind") if not isinstance(value.get(name), str) or not value[name]]
        if missing:
            return Admission(tuple(Problem(name, shown(value.get(name, "")), "is required") for name in missing))
        api_version, kind = value["apiVersion"], value["kind"]
        if (api_version, kind) == kubernetes.KIND:
            return _admission(kubernetes.SCHEMA, value, kubernetes.decoded(value), kubernetes.problems)
        version = self._versions.get((api_version, kind))
        if version is None:
            return self._foreign(value)
        root = version["schema"]["openAPIV3Schema"]
        # on creation the API server drops what belongs to the status
        own = _without(value, "status") if "status" in version.get("subresources", {}) else value
        return _admission(root, value, own, partial(rules.evaluate, root, path=""))

    def _foreign(self, value: Json) -> Admission:
        """Of a kind that has neither CRD nor check here: it is nothing of ours, unless its group is."""
        api_version, kind = value["apiVersion"], value["kind"]
        group = api_version.partition("/")[0]
        if (api_version, kind) == (expectations.API_VERSION, expectations.KIND):
            return Admission(tuple(_of_test(value)))
        if (api_version, kind) in hints.CALICOCTL or hints.is_look_alike(value):
            return Admission((), value)
        if group not in hints.OURS:
            return Admission(())
        if api_version in self._groups.get(group, ()):
            return Admission((Problem("kind", kind, f"there is no such kind in {api_version}"),))
        return Admission((Problem("apiVersion", api_version, f"must be {', '.join(sorted(self._groups[group]))}"),))

    def _warnings(self, whole: Json, neighbours: hints.Neighbours) -> Iterator[Problem]:
        version = self._versions.get((whole["apiVersion"], whole["kind"]))
        if version and version["scope"] == "Cluster" and (whole.get("metadata") or {}).get("namespace"):
            yield Problem("metadata.namespace", whole["metadata"]["namespace"], "has no effect: the kind has none")
        yield from neighbours.warnings(whole)


def _admission(root: Json, value: Json, own: Json, beyond: Callable[[Json], Iterable[Problem]]) -> Admission:
    """`own`: the part of the object that is judged; of the rest only unknown fields are refused."""
    found = list(metadata.problems(value.get("metadata", {})))
    found += schema.unknown(root, _without(value, "apiVersion", "kind", "metadata"), "")
    whole = schema.completed(root, own)
    check = schema.Check()
    check.check({"type": "object", **root}, whole, "")
    wrong = {problem.field for problem in check.problems}
    found = [each for each in found if each.field.rpartition(".")[0] not in wrong] + check.problems
    if check.unfit:
        return Admission(tuple(found))
    known = {problem.field for problem in found}
    found += [problem for problem in beyond(whole) if problem.field not in known]
    return Admission(tuple(found), whole)


def _of_test(value: Json) -> Iterator[Problem]:
    """Of a file for `tortie policy test`, which no API server knows."""
    try:
        expectations.read(value)
    except ValueError as error:
        yield Problem("", "", str(error))


def _without(value: Json, *names: str) -> Json:
    return {name: each for name, each in value.items() if name not in names}


BETWEEN_FIELDS = {"spec.preDNAT", "spec.doNotTrack", "spec.stagedAction"}
"""What is wrong with these is wrong with others too, and the CRDs say it of one of those."""
PLACE = re.compile(r"[^\[]*(\[\d+\])?")
"""Of a field: its rule, or itself."""


def _beyond(value: Json, found: Iterable[Problem]) -> Iterator[Problem]:
    """What only our own code sees, and nothing of a rule or field that has errors already: they would be the same."""
    places = {_place(problem.field) for problem in found}
    if places & {"", "spec", "metadata"} or any(place.startswith("metadata.name") for place in places):
        return
    places |= BETWEEN_FIELDS if found else set()
    yield from (problem for problem in semantics.problems(value) if _place(problem.field) not in places)


def _place(field: str) -> str:
    match = PLACE.match(field)
    return match[0] if match else field


def _report(document: Document, errors: Iterable[Problem], warnings: Iterable[Problem]) -> Report:
    value = document.value if isinstance(document.value, Mapping) else {}
    head = value.get("metadata")
    head = head if isinstance(head, Mapping) else {}
    kind, namespace, name = (str(each or "") for each in (value.get("kind"), head.get("namespace"), head.get("name")))
    found = tuple(Finding(field=each.field, value=each.value, message=each.message) for each in errors)
    return Report(
        file=document.file,
        line=document.line,
        kind=kind,
        namespace=namespace,
        name=name,
        valid=not found,
        errors=found,
        warnings=tuple(Finding(field=each.field, value=each.value, message=each.message) for each in warnings),
    )
