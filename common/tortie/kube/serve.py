"""What a process shows of itself over HTTP: /metrics for Prometheus, /livez and /readyz for the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

Check = Callable[[], str | None]
"""None while all is well, else what is not."""


async def serve(port: int, live: Check, ready: Check) -> None:
    """Runs for ever, on all addresses. OSError if the port is taken."""
    app = web.Application()
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/livez", _health(live))
    app.router.add_get("/readyz", _health(ready))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _metrics(request: web.Request) -> web.Response:
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encoder(REGISTRY), headers={"Content-Type": content_type})


def _health(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        reason = check()
        return web.Response(status=200 if reason is None else 503, text=f"{reason or 'ok'}\n")

    return answer
