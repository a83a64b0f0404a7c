"""An agent dies under traffic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence

from tortie.lab import Lab
from tortie.lab.demo.shop import NAMESPACE, Json
from tortie.lab.demo.words import Expectations
from tortie.lab.traffic import COMMAND

SETTLE = 2.0
"""Seconds of traffic before the agent is killed, and after it is back."""


async def kill_an_agent(lab: Lab, node: str, targets: Mapping[str, Sequence[str]], expectations: Expectations) -> None:
    """Connections, open ones and new ones, while a node's agent is killed and comes back. `targets`: by pod."""
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(Stream(lab, pod, to)) for pod, to in targets.items()]
        await asyncio.sleep(SETTLE)
        before = await lab.pid(f"agent/{node}")
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        await lab.wait_component(f"agent/{node}", other_than=before)
        lab.say(f"it is back and ready after {time.monotonic() - killed:.1f} s")
        await asyncio.sleep(SETTLE)
        results = [await stream.result() for stream in streams]
    kept, opened, exchanges = (sum(r[key] for r in results) for key in ("established", "opened", "exchanges"))
    lost = [line for r in results for line in r["lost"]]
    failed = [line for r in results for line in r["failed"]]
    longest = max(r["longest_ms"] for r in results)
    for line in [*lost, *failed][:10]:
        print(f"          {line}")
    expectations.expect(
        kept > 0 and not lost,
        f"connections lost: {len(lost)} of {kept} ({exchanges} exchanges, the slowest {longest:.0f} ms)",
    )
    expectations.expect(opened > 0 and not failed, f"new connections refused: {len(failed)} of {opened}")


class Stream:
    """`traffic.py stream` in a pod; entered once its connections are under way."""

    def __init__(self, lab: Lab, pod: str, targets: Sequence[str]) -> None:
        self._command = lab.pod_command(f"{NAMESPACE}/{pod}", [*COMMAND, "stream", *targets])

    async def __aenter__(self) -> Stream:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        await self._process.stdout.readline()
        return self

    async def result(self) -> Json:
        """End it, and learn what it saw."""
        out, _ = await self._process.communicate(b"")
        result: Json = json.loads(out)
        return result

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
