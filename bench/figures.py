"""What a benchmark says: a figure with its interval, its budget and the raw numbers."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of `bench/results.jsonl`.

    `budget` is text such as `≤ 120` or `≥ 1.0`, empty for a figure that is only recorded; `ok` judges the less
    favourable end of the interval, and is None without a budget.
    """

    name: str
    value: float
    unit: str
    budget: str = ""
    ok: bool | None = None
    low: float | None = None
    high: float | None = None
    raw: list[object] = field(default_factory=list)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of the median, from order statistics (binomial); the whole range for few values."""
    ordered = sorted(values)
    n = len(ordered)
    tail, rank = 0.0, 0
    while rank < n // 2:
        tail += math.comb(n, rank) / 2**n
        if tail > (1 - confidence) / 2:
            break
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[n - 1 - rank]


def judged(budget: str, low: float, high: float) -> bool | None:
    if not budget:
        return None
    sign, _, bound = budget.partition(" ")
    return high <= float(bound) if sign == "≤" else low >= float(bound)


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], budget: str = "") -> Figure:
    """Median of ours ÷ theirs over interleaved pairs."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, high = interval(ratios)
    raw: list[object] = [{"ours": a, "theirs": b} for a, b in zip(ours, theirs, strict=True)]
    return Figure(name, statistics.median(ratios), "ratio", budget, judged(budget, low, high), low, high, raw)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile: a value that was really seen."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def spread(name: str, values: Sequence[float], unit: str, budget: str = "") -> list[Figure]:
    """P50 and P99 of one quantity; the budget is the P99's."""
    p50, p99 = percentile(values, 50), percentile(values, 99)
    return [
        Figure(f"{name} P50", p50, unit, raw=list(values)),
        Figure(f"{name} P99", p99, unit, budget, judged(budget, p99, p99)),
    ]


def single(name: str, value: float, unit: str, budget: str = "", raw: Iterable[object] = ()) -> Figure:
    return Figure(name, value, unit, budget, judged(budget, value, value), raw=list(raw))


def write(figures: Iterable[Figure], path: Path) -> None:
    """Append the figures to `path`, one JSON object a line."""
    with path.open("a") as out:
        for figure in figures:
            out.write(json.dumps(asdict(figure), ensure_ascii=False) + "\n")


def row(figure: Figure) -> str:
    """One line of the printed table."""
    mark = {True: "met", False: "MISSED", None: ""}[figure.ok]
    between = f"[{figure.low:.3g} … {figure.high:.3g}]" if figure.low is not None and figure.high is not None else ""
    return f"{figure.name:<58} {figure.value:>10.4g} {figure.unit:<6} {between:<20} {figure.budget:<8} {mark}"
