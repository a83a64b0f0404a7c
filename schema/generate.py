"""The CRDs that repeat themselves, written from parts: every file here becomes the file of that name in `crds/`.

A mapping with the key `$part` stands for the part of that name, `parts/<name>.yaml`, or for several, one upon the
other. Its other keys are added to the part's: mappings are merged, a list is appended to the part's, anything else
replaces it.

`make crds` writes them all (an argument is another directory to write to); `tests/crds` shows that the checked-in files
are what this yields.
"""

from __future__ import annotations

import sys
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "crds"
WIDTH = 120


class Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, since not every reader of YAML knows references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def merged(base: Any, more: Any) -> Any:
    if isinstance(base, dict) and isinstance(more, dict):
        return base | {key: merged(base[key], value) if key in base else value for key, value in more.items()}
    if isinstance(base, list) and isinstance(more, list):
        return base + more
    return more


def expanded(node: Any) -> Any:
    """`node` with every `$part` in it replaced."""
    if isinstance(node, list):
        return [expanded(each) for each in node]
    if not isinstance(node, dict):
        return node
    own = {key: expanded(value) for key, value in node.items() if key != "$part"}
    names = node.get("$part", [])
    parts = [part(name) for name in ([names] if isinstance(names, str) else names)]
    whole = reduce(merged, [*parts, own])
    return {"description": whole["description"]} | whole if parts and "description" in whole else whole


def part(name: str) -> Any:
    return expanded(yaml.safe_load((HERE / "parts" / f"{name}.yaml").read_text()))


def generated(source: Path) -> str:
    """Text of the CRD."""
    body = yaml.dump(expanded(yaml.safe_load(source.read_text())), Dumper=Plain, sort_keys=False, width=WIDTH)
    return f"# Made by `make crds` from schema/{source.name}; edit that.\n{body}"


def main(target: Path) -> None:
    for source in sorted(HERE.glob("*.yaml")):
        (target / source.name).write_text(generated(source))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
