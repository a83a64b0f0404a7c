"""Who reaches whom, tried with real connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from tortie.lab import Lab
from tortie.lab.demo.shop import FAMILIES, NAMESPACE, Column, Json, Shop, name, node_of
from tortie.lab.traffic import COMMAND

PROXY_PATIENCE = 10.0

Matrix = Sequence[Sequence[str]]
"""A row a pod, a cell a column: the families over which the right pod answered."""


async def matrix(lab: Lab, shop: Shop) -> Matrix:
    """Everyone to everyone, all at once."""
    return await asyncio.gather(*(reached(lab, pod, shop.columns) for pod in shop.pods))


async def services_programmed(lab: Lab, shop: Shop) -> None:
    """Wait a little for kube-proxy, which follows a Service's endpoints a second or two later; who waits in vain is
    told by the matrix."""
    services = [column for column in shop.columns if column.is_service]
    a_pod_each = {node_of(pod): pod for pod in shop.pods}.values()
    deadline = time.monotonic() + PROXY_PATIENCE
    while time.monotonic() < deadline:
        rows = await asyncio.gather(*(reached(lab, pod, services) for pod in a_pod_each))
        if all(len(cell) == len(FAMILIES) for row in rows for cell in row):
            return


async def reached(lab: Lab, pod: Json, to: Sequence[Column]) -> list[str]:
    """For each column the families over which one of the pods that may answer did."""
    targets = {(column, family): column.target(family) for column in to for family in FAMILIES}
    asked = [target for target in targets.values() if target]
    said = json.loads(await lab.pod_exec(f"{NAMESPACE}/{name(pod)}", [*COMMAND, "reach", *asked]))
    answers = {path["target"]: path.get("answer") for path in said["paths"]}
    return ["".join(f for f in FAMILIES if answers.get(targets[column, f] or "") in column.answers) for column in to]


def show(shop: Shop, rows: Matrix) -> None:
    labels = [f"{number} {name(pod)} ({node_of(pod)})" for number, pod in enumerate(shop.pods, 1)]
    width = max(map(len, labels))
    widths = [max(len(column.title), len(FAMILIES)) for column in shop.columns]
    print("  " + " " * width + "".join(f"  {c.title:<{w}}" for c, w in zip(shop.columns, widths, strict=True)))
    for label, row in zip(labels, rows, strict=True):
        print(f"  {label:<{width}}" + "".join(f"  {cell or '·':<{w}}" for cell, w in zip(row, widths, strict=True)))
