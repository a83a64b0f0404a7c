"""`tortie policy diff`: which flows between pods, on the pods' own ports, change their verdict if manifests are
applied?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from tortie.cli import clusters
from tortie.cli.manifests import UsageError
from tortie.policy.build import build
from tortie.policy.difference import Change, changes, ports
from tortie.policy.explain import DONE, flow, side


def add(actions: Any) -> None:
    parser = actions.add_parser("diff", help="what applying manifests would change", description=__doc__)
    clusters.add_source(parser)
    parser.add_argument(
        "-f", "--filename", nargs="+", action="extend", required=True, metavar="PATH", help="manifests to apply"
    )
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="format (text)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """As kubectl diff: 0 nothing changes, 1 something does, 2 an error."""
    try:
        objects = clusters.objects(options)
        new = clusters.from_files(options.filename)
    except UsageError as error:
        print(f"tortie policy diff: {error}", file=sys.stderr)
        return 2
    before, after = build(objects)[0], clusters.built([*objects, *new])
    found = list(changes(before, after, ports([*objects, *new])))
    if options.output == "json":
        for change in found:
            print(msgspec.json.encode(change).decode())
    else:
        _print(found)
    return 1 if found else 0


def _print(found: Sequence[Change]) -> None:
    for change in found:
        print(f"{flow(change.flow)}: {DONE[change.before.verdict]} → {DONE[change.after.verdict]}")
        decisive = change.after if change.after.verdict == "deny" else change.before
        for name, each in (("egress", decisive.egress), ("ingress", decisive.ingress)):
            if each and each.verdict == "deny":
                print("\n".join(side(each, f"{name} {'after' if decisive is change.after else 'before'}")))
    print(f"flows that change: {len(found)}")
