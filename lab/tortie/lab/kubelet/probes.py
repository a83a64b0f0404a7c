"""Probes and lifecycle hooks, run from the node as a kubelet runs them (core/v1 Probe, Lifecycle)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from tortie.lab.kubelet.manifest import Action, HttpGet, Probe

HEAD_START = 0.1
"""Seconds before the first probe, in which most programs begin to listen: a failed one costs a whole period."""


@dataclass(frozen=True)
class Target:
    """A container that runs."""

    address: str
    ports: Mapping[str, int]
    netns: str
    """Path of the pod's network namespace, empty if that is the node's."""
    env: Mapping[str, str] = field(default_factory=dict)
    echo: bool = False
    """An echo server stands for its image."""

    def port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        if port not in self.ports:
            raise ValueError(f"port {port!r}: the container has no port of that name")
        return self.ports[port]


class Prober:
    """Takes actions; holds the one HTTP session of the kubelet."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def attempt(self, action: Action, target: Target, patience: float) -> str | None:
        """None if it succeeded, else why it did not."""
        try:
            async with asyncio.timeout(patience):
                return await self._take(action, target)
        except TimeoutError:
            return f"no answer within {patience:g} s"
        except (OSError, ValueError, aiohttp.ClientError) as error:
            return str(error) or type(error).__name__

    async def _take(self, action: Action, target: Target) -> str | None:
        if action.http_get:
            return await self._get(action.http_get, target)
        if action.exec:
            return await _execute(action.exec.command, target)
        if action.sleep:
            await asyncio.sleep(action.sleep.seconds)
        elif socket := action.tcp_socket or action.grpc:  # whether a gRPC server listens is all that is asked of it
            _, writer = await asyncio.open_connection(socket.host or target.address, target.port(socket.port))
            writer.close()
        return None

    async def _get(self, get: HttpGet, target: Target) -> str | None:
        host = get.host or target.address
        url = f"{get.scheme.lower()}://{f'[{host}]' if ':' in host else host}:{target.port(get.port)}{get.path}"
        headers = {header.name: header.value for header in get.http_headers}
        async with self._session.get(url, headers=headers, ssl=False, allow_redirects=False) as response:
            if 200 <= response.status < 400:
                return None
            return f"HTTP probe failed with statuscode: {response.status}"

    async def outcomes(
        self, probe: Probe, target: Target, failed: Callable[[str], None], *, eager: bool = False
    ) -> AsyncIterator[bool]:
        """Yield whenever the verdict on a container is reached or changes. `failed` is told of each failed attempt.

        `eager`: until the first verdict, ask at least once a second, so that a short start is not a period long.
        """
        verdict: bool | None = None
        successes = failures = 0
        await asyncio.sleep(max(HEAD_START, probe.initial_delay_seconds))
        while True:
            reason = await self.attempt(probe, target, probe.timeout_seconds)
            if reason is None:
                successes, failures = successes + 1, 0
            else:
                successes, failures = 0, failures + 1
                failed(reason)
            if successes >= probe.success_threshold and verdict is not True:
                verdict = True
                yield True
            if failures >= probe.failure_threshold and verdict is not False:
                verdict = False
                yield False
            wait = probe.period_seconds
            await asyncio.sleep(min(wait, 1) if eager and not verdict else wait)


async def _execute(argv: tuple[str, ...], target: Target) -> str | None:
    """Run a command in the pod's network. An echo server lacks its image's programs: they count as content."""
    if target.echo:
        return None
    command = ["nsenter", f"--net={target.netns}", "--", *argv] if target.netns else list(argv)
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=null, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=dict(target.env)
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    return f"exit code {process.returncode}: {out.decode(errors='replace').strip()[-200:]}"
