"""Manifests that a command is given: files, directories, `-` for what comes in; and the CRDs that belong to us."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tortie.validation.documents import Document, documents

EXTENSIONS = (".json", ".yaml", ".yml")
"""As kubectl has it: a file in a directory must have one of them."""


class UsageError(Exception):
    """What the user gave cannot be worked with; the message says what and why."""


def read(paths: Iterable[str], *, recursive: bool = False) -> Iterator[Document]:
    """Raises UsageError."""
    for path in paths:
        for file in [path] if path == "-" else _files(Path(path), recursive):
            yield from documents(text(str(file)), str(file))


def text(path: str) -> str:
    """Of a file, or of standard input."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8"
        raise UsageError(f"{path}: {reason}") from None


def _files(path: Path, recursive: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = path.rglob("*") if recursive else path.glob("*")
    return sorted(each for each in found if each.suffix in EXTENSIONS and each.is_file())


def definitions() -> list[Mapping[str, Any]]:
    """Our CRDs: in the installed package, or in the checkout that it is run from."""
    here = Path(__file__).resolve()
    installed, checkout = here.parents[1] / "crds", here.parents[3] / "crds"
    directory = installed if installed.is_dir() else checkout
    return [yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader) for file in sorted(directory.glob("*.yaml"))]
