"""Commands run as people run them, but in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tortie.cli.main import main

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
POLICIES = EXAMPLES / "policies"
CLUSTER = str(POLICIES / "cluster.yaml")


def run(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, what is printed, and what is said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _typed(stdin):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _typed(text: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        yield


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]
