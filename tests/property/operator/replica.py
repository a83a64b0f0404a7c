"""One operator process: the real one from its informers' listeners on, over a `Wire`, without a Lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tortie.kube.client import Resource
from tortie.kube.informer import Gone, Put, Replaced
from tortie.operator.main import STARTS_OVER, Operator, Options
from tortie.operator.sources import informers, rare

from .apiserver import ApiServer, Event
from .network import Feed, Weather, Wire

OPTIONS = Options(kubeconfig=None, namespace="tortie-system", ip_pools=[], metrics_port=0)


class Replica:
    """Starts at once; leads, with the epoch that `epoch()` gives it, as soon as it has seen a list of each kind."""

    def __init__(
        self,
        server: ApiServer,
        weather: Weather,
        random: Random,
        epoch: Callable[[], int],
        stepped: Callable[[Replica, str, str], None] = lambda *_: None,
        *,
        elected: bool = False,
    ) -> None:
        """`elected`: by the Lease after all; `epoch` is not asked then."""
        self.epoch = 0
        """0: does not lead yet."""
        self.ended = ""
        """Why it ended by itself."""
        self.wire = Wire(server, weather, random, lambda what, key: stepped(self, what, key))
        self.operator = Operator(OPTIONS, self.wire)  # type: ignore[arg-type]
        self.feeds: dict[str, Feed] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server = server
        server.listeners.append(self._woken)
        for kind, resource in informers.WATCHED.items():
            self._feed(resource, *self._informer(kind))
        for kind, resource in rare.WATCHED.items():
            self._feed(resource, *self._rare(kind))
        leading = self.operator.lead() if elected else self._lead(epoch)
        self._tasks = [asyncio.create_task(self.operator.rare._work()), asyncio.create_task(self._until_over(leading))]

    def _feed(self, resource: Resource, *listeners: Callable[..., None]) -> None:
        feed = Feed(self.wire, resource, *listeners)
        self.feeds[feed.kind] = feed

    def _informer(self, kind: str) -> tuple[Callable[..., None], ...]:
        informer = self.operator.informers.informers[kind]
        listener = self.operator.informers._listener(kind)

        def connected(is_connected: bool) -> None:
            informer.connected = is_connected

        def listed(objects: dict[str, Any], version: int) -> None:
            listener(Replaced(objects, version, False))
            informer.synced = True

        def told(event: Event) -> None:
            metadata = event.obj.metadata
            change = Gone if event.deleted else Put
            listener(change(metadata.key, event.obj, metadata.version))

        return listed, told, connected

    def _rare(self, kind: str) -> tuple[Callable[..., None], ...]:
        """kopf only says which object changed."""

        def listed(objects: dict[str, Any], version: int) -> None:
            self.operator.rare._put((kind, "", ""))

        def told(event: Event) -> None:
            self.operator.rare._put((kind, event.obj.metadata.namespace, event.obj.metadata.name))

        return listed, told

    def _woken(self, kind: str, before: Any, after: Any) -> None:
        if (feed := self.feeds.get(kind)) is not None:
            feed.wake()

    async def _lead(self, epoch: Callable[[], int]) -> None:
        while not self.operator.synced:  # noqa: ASYNC110 - as the operator itself does
            await asyncio.sleep(0.2 * self.wire.random.random())
        self.epoch = epoch()
        await self.operator._term(self.epoch)

    async def _until_over(self, leading: Coroutine[Any, Any, None]) -> None:
        try:
            await leading
        except* STARTS_OVER as group:
            self.ended = str(group.exceptions[0])
            self.kill()

    @property
    def alive(self) -> bool:
        return not self.wire.dead

    def failure(self) -> BaseException | None:
        """What it died of, if it was neither killed nor superseded."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error
        return None

    def kill(self) -> None:
        """As by SIGKILL: what is on its way arrives or not, and nothing comes back."""
        self.wire.dead = True
        with contextlib.suppress(ValueError):
            self._server.listeners.remove(self._woken)
        for task in self._tasks:
            task.cancel()
