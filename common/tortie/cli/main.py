"""Entry point of `tortie` and `kubectl tortie`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tortie.cli import lab, policy, validate, why


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tortie", description="Kubernetes networking and network policy")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    validate.add(commands)
    policy.add(commands)
    why.add(commands)
    lab.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
