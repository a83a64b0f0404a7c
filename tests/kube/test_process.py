"""What a process shows of itself: log lines, health and metrics."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from tortie.kube import log
from tortie.kube.serve import serve

from ..controlplane import free_ports

PROGRAM = """
import logging, warnings
from pathlib import Path
from tortie.kube import log
log.setup("agent", "info", node="node-1")
logger = logging.getLogger("tortie.test")
logger.debug("not shown")
logger.info("pod %s attached", "shop/web", extra={"pod": "shop/web", "took": 0.25, "path": Path("/run")})
logger.warning("line one\\nline two \\u00fc \\udc80", extra={"ts": "never", "node": "node-2"})
try:
    {}["missing"]
except KeyError:
    logger.exception("failed")
warnings.warn("old")
raise RuntimeError("end")
"""


def lines_of(program: str) -> list[dict[str, Any]]:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=20)
    assert result.stdout == b""
    return [json.loads(line) for line in result.stderr.splitlines()]


def test_all_that_a_process_says_is_one_json_object_a_line() -> None:
    attached, odd, failed, warned, ended = lines_of(PROGRAM)
    assert datetime.fromisoformat(attached.pop("ts")).tzinfo is not None
    assert attached == {
        "level": "info",
        "component": "agent",
        "logger": "tortie.test",
        "msg": "pod shop/web attached",
        "node": "node-1",
        "pod": "shop/web",
        "took": 0.25,
        "path": "/run",
    }
    assert odd["msg"] == "line one\nline two ü \udc80"
    assert odd["ts"] != "never"
    assert odd["node"] == "node-1", "the process's own fields cannot be overwritten"
    assert failed["level"] == "error"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("KeyError: 'missing'")
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    assert ended["level"] == "critical"
    assert ended["exception"].endswith("RuntimeError: end")


def test_a_level_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="log level 'loud' is none of debug, info"):
        log.setup("agent", "loud")


@dataclass
class Served:
    port: int
    reasons: dict[str, str | None] = field(
        default_factory=lambda: {"live": None, "ready": "waiting for the first list"}
    )

    async def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{host}:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(free_ports(1)[0])
    reasons = served.reasons
    task = asyncio.create_task(serve(served.port, lambda: reasons["live"], lambda: reasons["ready"]))
    async with asyncio.timeout(5):
        while True:
            try:
                await served.get("/livez")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
    yield served
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_health_is_answered_with_the_reason_when_it_is_bad(served: Served) -> None:
    assert await served.get("/livez") == (200, "ok\n")
    assert await served.get("/readyz") == (503, "waiting for the first list\n")
    served.reasons |= {"live": "the event loop has stopped", "ready": None}
    assert await served.get("/livez") == (503, "the event loop has stopped\n")
    assert await served.get("/readyz") == (200, "ok\n")
    assert (await served.get("/"))[0] == 404


async def test_metrics_are_in_the_format_of_prometheus(served: Served) -> None:
    status, text = await served.get("/metrics")
    assert status == 200
    assert "# TYPE process_resident_memory_bytes gauge" in text


async def test_ipv6_is_served_too(served: Served) -> None:
    assert (await served.get("/livez", "[::1]"))[0] == 200


async def test_a_port_that_is_taken_is_an_error(served: Served) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await serve(served.port, lambda: None, lambda: None)
