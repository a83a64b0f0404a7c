"""What lies between an operator and the API server: delays, lost requests, lost answers, requests that come late.

`Wire` is the client of one operator, `Feed` one of its watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NoReturn

import msgspec

from tortie.api.compiled import STAMPED
from tortie.api.kubernetes import Node, NodeCondition
from tortie.kube.client import REQUEST_TIMEOUT, ApiError, Listing, Resource
from tortie.kube.resources import EVENT

from .apiserver import ApiServer, Event, kind_of

replace = msgspec.structs.replace

LATEST = 30.0
"""Seconds after which a request that is not done yet never will be."""


@dataclass
class Weather:
    """Probabilities per request, and how long things take (seconds)."""

    lost: float = 0.0
    """The request never arrives, and times out."""
    unanswered: float = 0.0
    """It is done, and the answer is lost."""
    late: float = 0.0
    """It times out, and is done afterwards all the same."""
    refused: float = 0.0
    """500 or 503; half of them are done."""
    latency: float = 0.005
    lag: float = 0.005
    """Of watches."""
    stall: float = 0.0
    """Probability that a watch says nothing for some seconds, per event."""
    cut: float = 0.0
    """Probability that a watch breaks and begins again with a list, per event."""


class Wire:
    """Has the methods of `tortie.kube.client.Client` that the operator uses."""

    def __init__(
        self, server: ApiServer, weather: Weather, random: Random, stepped: Callable[[str, str], None]
    ) -> None:
        """`stepped(what, key)` is called before each request is carried out at the server."""
        self.server = server
        self.weather = weather
        self.random = random
        self.stepped = stepped
        self.cut = False
        """Partitioned from the API server."""
        self.dead = False
        self.writes = 0
        """Successful creations, replacements and deletions, Events apart."""
        self.acknowledged = dict.fromkeys(STAMPED, 0)
        """Highest version of these kinds that any answer told of."""
        self.sent: Callable[[str, Any], None] = lambda verb, obj: None
        """Called with each object (with its key for a deletion) as it is sent."""

    async def get(self, resource: Resource, name: str, *, namespace: str = "", type: Any) -> Any:
        return await self._call("get", resource, name, lambda: self.server.get(resource, name, namespace))

    async def list(self, resource: Resource, *, type: Any) -> Listing[Any]:
        if kind_of(resource) not in self.server.events:
            return Listing((), self.server.version)  # of a kind that nobody uses here
        return Listing(*await self._call("list", resource, "", lambda: self.server.list(resource)))

    async def create(self, resource: Resource, obj: Any, *, namespace: str = "", type: Any) -> Any:
        if isinstance(obj, Mapping):
            obj = msgspec.convert(obj, type)
        if resource is EVENT:
            return await self._call("create", resource, "", lambda: None)
        self.sent("create", obj)
        return await self._call("create", resource, obj.metadata.key, lambda: self.server.create(resource, obj))

    async def replace(self, resource: Resource, obj: Any, *, type: Any) -> Any:
        self.sent("replace", obj)
        return await self._call("replace", resource, obj.metadata.key, lambda: self.server.replace(resource, obj))

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", uid: str = "", version: str = ""
    ) -> None:
        await self._call("delete", resource, name, lambda: self.server.delete(resource, name, namespace, uid, version))

    async def patch(self, resource: Resource, name: str, body: Mapping[str, Any], *, type: Any, **_: Any) -> Any:
        """Only conditions of Nodes, as a strategic merge by type."""
        assert type is Node

        def execute() -> Any:
            before: Node = self.server.get(resource, name)
            fresh = msgspec.convert(body["status"]["conditions"], tuple[NodeCondition, ...])
            kept = tuple(c for c in before.status.conditions if c.type not in {f.type for f in fresh})
            return self.server.edit(resource, name, status=replace(before.status, conditions=kept + fresh))

        return await self._call("patch", resource, name, execute)

    async def _call(self, verb: str, resource: Resource, key: str, execute: Callable[[], Any]) -> Any:
        if self.dead:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        write = verb in ("create", "replace", "delete") and resource is not EVENT
        weather, random = self.weather, self.random

        def settle(result: Any, error: BaseException | None) -> None:
            if answer.done() or self.dead:
                return
            if error is not None:
                answer.set_exception(error)
                return
            answer.set_result(result)
            if resource.plural in self.acknowledged and hasattr(result, "metadata"):
                version = max(self.acknowledged[resource.plural], result.metadata.version)
                self.acknowledged[resource.plural] = version

        def carry_out(answered: bool) -> None:
            self.stepped(f"{verb} {resource.plural}", key)
            result, error = None, None
            try:
                result = execute()
                self.writes += write
            except ApiError as refusal:
                error = refusal
            if answered:
                loop.call_later(weather.latency * random.random(), settle, result, error)

        dice = random.random()
        there = weather.latency * random.random()
        timeout = ApiError(0, "Timeout", f"{verb} {resource.plural} {key}")
        if self.cut or (dice := dice - weather.lost) < 0:
            loop.call_later(REQUEST_TIMEOUT, settle, None, timeout)
        elif (dice := dice - weather.unanswered) < 0:
            loop.call_later(there, carry_out, False)
            loop.call_later(random.choice((there * 2, REQUEST_TIMEOUT)), settle, None, timeout)
        elif (dice := dice - weather.late) < 0:
            loop.call_later(REQUEST_TIMEOUT, settle, None, timeout)
            loop.call_later(random.uniform(there, LATEST), carry_out, False)
        elif (dice := dice - weather.refused) < 0:
            if dice > -weather.refused / 2:
                loop.call_later(there, carry_out, False)
            refusal = ApiError(random.choice((500, 503, 429)), "Unavailable", "etcdserver: request timed out")
            loop.call_later(there * 2, settle, None, refusal)
        else:
            loop.call_later(there, carry_out, True)
        return await answer

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"the model of a client lacks {name}")


class Feed:
    """One watch of one operator: events in order, each some time after it happened."""

    def __init__(
        self,
        wire: Wire,
        resource: Resource,
        listed: Callable[[dict[str, Any], int], None],
        told: Callable[[Event], None],
        connected: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`listed(objects, version)` takes a complete list, `told` what happens after it."""
        self.wire = wire
        self.kind = kind_of(resource)
        self.resource = resource
        self._connected = connected
        self._listed = listed
        self._told = told
        self._next = 0
        """Index of the next event to be told."""
        self._pending = False
        self.silent_until = 0.0
        """It says nothing before that."""
        if self.kind in wire.server.events:
            self.relist()
        else:
            self._listed({}, wire.server.version)
            self._connected(True)

    def relist(self) -> None:
        """As after a 410: a list as it is now (or rather soon), told after a while; then what came after it."""
        self._connected(False)
        self._pending = True
        asyncio.get_running_loop().call_later(self.wire.weather.lag * self.wire.random.random(), self._list)

    def wake(self) -> None:
        """Something has happened."""
        if not self._pending:
            self._pending = True
            weather, random = self.wire.weather, self.wire.random
            lag = weather.lag * random.random()
            if random.random() < weather.stall:
                lag += random.expovariate(0.5)
            asyncio.get_running_loop().call_later(lag, self._deliver)

    def _list(self) -> None:
        if self.wire.dead:
            return
        if self.wire.cut:
            asyncio.get_running_loop().call_later(1.0, self._list)
            return
        server = self.wire.server
        objects, version = server.list(self.resource)
        self._next = len(server.events.get(self.kind, ()))
        snapshot = {obj.metadata.key: obj for obj in objects}
        asyncio.get_running_loop().call_later(
            self.wire.weather.lag * self.wire.random.random(), self._begin, snapshot, version
        )

    def _begin(self, snapshot: dict[str, Any], version: int) -> None:
        if self.wire.dead:
            return
        self.wire.stepped(f"listed {self.kind}", "")
        self._listed(snapshot, version)
        self._connected(True)
        self._pending = False
        self._catch_up()

    def _catch_up(self) -> None:
        if self._next < len(self.wire.server.events.get(self.kind, ())):
            self.wake()

    def _deliver(self) -> None:
        wire = self.wire
        if wire.dead:
            return
        loop = asyncio.get_running_loop()
        if wire.cut:
            self._connected(False)
            loop.call_later(1.0, self._deliver)
            return
        if loop.time() < self.silent_until:
            loop.call_at(self.silent_until, self._deliver)
            return
        if wire.random.random() < wire.weather.cut:
            self.relist()
            return
        self._connected(True)
        self._pending = False
        events = wire.server.events[self.kind]
        # What has happened meanwhile arrives together, or only the first of it.
        until = len(events) if wire.random.random() < 0.7 else self._next + 1
        while self._next < until:
            event = events[self._next]
            self._next += 1
            wire.stepped(f"told {self.kind}", event.obj.metadata.key)
            self._told(event)
        self._catch_up()
