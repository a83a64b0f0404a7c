"""`tortie policy`: what policies mean, before they are applied or after."""

from __future__ import annotations

from typing import Any

from tortie.cli import diff, evaluate, expect, status


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers (whose type has no public name)."""
    policy = commands.add_parser("policy", help="what policies allow and deny", description=__doc__)
    actions = policy.add_subparsers(title="actions", metavar="ACTION", required=True)
    evaluate.add(actions)
    diff.add(actions)
    expect.add(actions)
    status.add(actions)
