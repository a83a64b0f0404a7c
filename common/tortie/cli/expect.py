"""`tortie policy test`: do policies allow and deny what they should? For pipelines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from tortie.cli import clusters
from tortie.cli.manifests import UsageError, read
from tortie.policy.expectations import Expectations, Result, results
from tortie.policy.expectations import read as expectations
from tortie.policy.explain import DONE, flow, side
from tortie.policy.flows import FlowError


def add(actions: Any) -> None:
    parser = actions.add_parser("test", help="hold policies to expectations", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="expectations")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="format (text)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0: all as expected, 1: something is not, 2: an error."""
    failed = 0
    for file in options.files:
        try:
            found = _results(file)
        except (UsageError, FlowError) as error:
            print(f"tortie policy test: {file}: {error}", file=sys.stderr)
            return 2
        failed += sum(not result.passed for result in found)
        if options.output == "json":
            for result in found:
                print(_json(file, result))
        else:
            _print(file, found)
    return 1 if failed else 0


def _results(file: str) -> list[Result]:
    expected = _expectations(file)
    beside = Path(file).parent
    cluster = clusters.built(clusters.from_files(str(beside / path) for path in expected.manifests))
    return list(results(expected, cluster))


def _expectations(file: str) -> Expectations:
    documents = list(read([file]))
    if len(documents) != 1:
        raise UsageError(f"has {len(documents)} documents, not one")
    (document,) = documents
    if document.problem:
        raise UsageError(f"line {document.line}: {document.problem.message}")
    try:
        return expectations(document.value)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _json(file: str, result: Result) -> str:
    return msgspec.json.encode({"file": file, "passed": result.passed, **msgspec.to_builtins(result)}).decode()


def _print(file: str, found: list[Result]) -> None:
    for result in found:
        if result.passed:
            continue
        because = f" ({result.because})" if result.because else ""
        print(f"{file}: {flow(result.flow)}: is {DONE[result.verdict]}, should be {DONE[result.expected]}{because}")
        for each, where in ((result.egress, "egress"), (result.ingress, "ingress")):
            if each:
                print("\n".join(side(each, where)))
    failed = sum(not result.passed for result in found)
    print(f"{file}: {len(found) - failed} as expected, {failed} not")
