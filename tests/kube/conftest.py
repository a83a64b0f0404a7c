"""Clients of a real API server, straight and through a proxy that misbehaves on demand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tortie.api.kubernetes import ConfigMap, Namespace
from tortie.api.meta import Metadata
from tortie.kube.client import Client, NotFound
from tortie.kube.informer import Bookmark, Change, Gone, Informer, Put, Replaced
from tortie.kube.resources import CONFIG_MAP, NAMESPACE

from ..controlplane import TOKENS, Cluster, cluster
from .proxy import Proxy

__all__ = ["cluster"]

_numbers = itertools.count()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with await Client.connect(cluster.kubeconfig, user_agent="tortie-test") as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> str:
    """A fresh one, so that no test sees another's objects."""
    name = f"test-{next(_numbers)}"
    await client.create(NAMESPACE, Namespace(metadata=Metadata(name=name)), type=Namespace)
    return name


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    async with Proxy(cluster.port) as proxy:
        yield proxy


@pytest.fixture
async def distant(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> AsyncIterator[Client]:
    """A client behind the proxy."""
    kubeconfig = cluster.write_kubeconfig(
        tmp_path / "distant", f"https://127.0.0.1:{proxy.port}", {"token": TOKENS["tester"]}
    )
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        yield client


class Recorder:
    """A listener that keeps what it was told, and the objects that this leaves."""

    def __init__(self) -> None:
        self.changes: list[Change[Any]] = []
        self.objects: dict[str, Any] = {}
        self._news = asyncio.Event()

    def __call__(self, change: Change[Any]) -> None:
        self.changes.append(change)
        match change:
            case Put(key, obj, _):
                self.objects[key] = obj
            case Gone(key, _, _):
                self.objects.pop(key, None)  # it may never have been decoded
            case Replaced(objects, _, _):
                self.objects = dict(objects)
        self._news.set()

    @property
    def versions(self) -> list[int]:
        """Of all Puts and Gones, in order."""
        return [change.version for change in self.changes if isinstance(change, Put | Gone)]

    @property
    def bookmarks(self) -> list[int]:
        return [change.version for change in self.changes if isinstance(change, Bookmark)]

    @property
    def lists(self) -> list[Replaced[Any]]:
        return [change for change in self.changes if isinstance(change, Replaced)]

    async def until(self, holds: Callable[[], bool], within: float = 10.0) -> None:
        async with asyncio.timeout(within):
            while not holds():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def watched(informer: Informer[Any], recorder: Recorder) -> AsyncIterator[None]:
    """The informer runs, has listed and has an open watch. What ends it, ends the test."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        await recorder.until(lambda: informer.synced)
        await eventually(lambda: informer.connected)
        yield
        task.cancel()


async def eventually(holds: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 — what is waited for has no event
            await asyncio.sleep(0.02)


async def put(client: Client, namespace: str, name: str, **data: str) -> ConfigMap:
    """Created or changed; without `data` differently each time."""
    data = data or {"n": str(next(_numbers))}
    try:
        return await client.patch(CONFIG_MAP, name, {"data": data}, namespace=namespace, type=ConfigMap)
    except NotFound:
        obj = ConfigMap(metadata=Metadata(name=name), data=data)
        return await client.create(CONFIG_MAP, obj, namespace=namespace, type=ConfigMap)


def sample(name: str, **labels: str) -> float:
    """A metric's value now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@contextmanager
def growing(name: str, **labels: str) -> Iterator[None]:
    before = sample(name, **labels)
    yield
    assert sample(name, **labels) > before, f"{name}{labels} has not grown"
