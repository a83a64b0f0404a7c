"""`make controlplane`: find or build the binaries of the control plane, and say where they are."""

from __future__ import annotations

import sys

from tortie.lab import binaries


def main() -> int:
    try:
        programs = binaries.find(lambda line: print(line, file=sys.stderr, flush=True))
    except binaries.BinaryError as error:
        print(error, file=sys.stderr)
        return 1
    for name, path in programs.items():
        print(f"{name:<24} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
