"""What the demo prints, and whether what was expected held."""

from __future__ import annotations


class Expectations:
    def __init__(self) -> None:
        self.failed = 0

    def expect(self, held: bool, what: str) -> None:
        print(f"  {'ok    ' if held else 'FAILED'}  {what}", flush=True)
        self.failed += not held


def headline(text: str) -> None:
    print(f"\n{text}", flush=True)
