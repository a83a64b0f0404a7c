"""All benchmarks, one after another: prints a table, writes bench/results.jsonl anew.

python -m bench [NAME…]     of: compiler path start
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import compiler, path, start
from bench.figures import Figure, row, write
from bench.workload import namespace
from tortie.lab import Lab

RESULTS = Path(__file__).with_name("results.jsonl")
IN_LAB: dict[str, Callable[[Lab], Awaitable[list[Figure]]]] = {"path": path.figures, "start": start.figures}
ALONE: dict[str, Callable[[], list[Figure]]] = {"compiler": compiler.figures}


def show(figures: list[Figure]) -> None:
    write(figures, RESULTS)
    for figure in figures:
        print(row(figure), flush=True)


async def in_lab(names: list[str]) -> None:
    lab = Lab("bench", lambda line: print(line, file=sys.stderr))
    await lab.down()
    try:
        await lab.up(3)
        async with namespace(lab):
            for name in names:
                show(await IN_LAB[name](lab))
    finally:
        await lab.down()


def main() -> None:
    names = sys.argv[1:] or [*ALONE, *IN_LAB]
    if unknown := set(names) - ALONE.keys() - IN_LAB.keys():
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}: {', '.join([*ALONE, *IN_LAB])}")
    RESULTS.unlink(missing_ok=True)
    for name in names:
        if name in ALONE:
            show(ALONE[name]())
    if chosen := [name for name in names if name in IN_LAB]:
        asyncio.run(in_lab(chosen))


if __name__ == "__main__":
    main()
