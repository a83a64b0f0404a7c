"""`tortie validate`: would the API server take these objects, and do they do what was meant? Without a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from tortie.cli.manifests import UsageError, definitions, read
from tortie.validation.validate import Finding, Report, Validator


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers (whose type has no public name)."""
    parser = commands.add_parser("validate", help="check manifests without a cluster", description=__doc__)
    parser.add_argument(
        "-f", "--filename", nargs="+", action="extend", required=True, metavar="PATH", help="files, directories, or -"
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="also what is below the directories")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="format (text)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        reports = Validator(definitions()).reports(read(options.filename, recursive=options.recursive))
    except UsageError as error:
        print(f"tortie validate: {error}", file=sys.stderr)
        return 2
    if options.output == "json":
        for report in reports:
            print(msgspec.json.encode(report).decode())
    else:
        for line in _text(reports):
            print(line)
    return 0 if all(report.valid for report in reports) else 1


def _text(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        name = f"{report.namespace}/{report.name}" if report.namespace else report.name
        here = f"{report.file}:{report.line}: {' '.join(part for part in (report.kind, name) if part)}"
        for grade, findings in (("error", report.errors), ("warning", report.warnings)):
            for finding in findings:
                yield f"{here}: {grade}: {_shown(finding)}"
    invalid, warnings = sum(not each.valid for each in reports), sum(len(each.warnings) for each in reports)
    yield f"documents: {len(reports)}, invalid: {invalid}, warnings: {warnings}"


SHOWN = 60
"""Characters of a value that are printed."""


def _shown(finding: Finding) -> str:
    value = finding.value if len(finding.value) <= SHOWN else f"{finding.value[:SHOWN]}…"
    return " ".join(part for part in (finding.field, value and f"'{value}':", finding.message) if part)
