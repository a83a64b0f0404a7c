"""Kinds of low count: kopf says which object changed, and its newest version is read from the API server.

kopf's handlers run in a thread and loop of their own (it cancels tasks in its loop that it does not know), are
`on.event` only (others write to the objects), and do nothing but put a key on our queue: kopf coalesces nothing, the
queue does. Whatever kopf lists at first or after a break leads to one list of that kind, which also finds what was
deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import kopf
from kubernetes_asyncio import config
from kubernetes_asyncio.client import Configuration

from tortie.kube import resources
from tortie.kube.client import ApiError, Client, NotFound, Resource
from tortie.operator.sources.informers import EtcdRestored
from tortie.operator.world import KINDS, Dirty, World

log = logging.getLogger(__name__)

WATCHED: dict[str, Resource] = {
    "nodes": resources.NODE,
    "tiers": resources.TIER,
    "hostendpoints": resources.HOST_ENDPOINT,
    "ns": resources.NETWORK_SET,
    "gns": resources.GLOBAL_NETWORK_SET,
    "ippools": resources.IP_POOL,
    "ipreservations": resources.IP_RESERVATION,
    "ipamconfigurations": resources.IPAM_CONFIGURATION,
    "felixconfigurations": resources.FELIX_CONFIGURATION,
}
"""By what the world calls them."""
RELIST = 300.0
"""Seconds after which each kind is listed again: kopf does not tell when the last object of a kind went unseen."""
RETRY = 1.0

Key = tuple[str, str, str]
"""(kind, namespace, name); an empty name means all of that kind."""


class RareKinds:
    def __init__(
        self, client: Client, kubeconfig: Path | None, world: World, touched: Callable[[set[Dirty]], None]
    ) -> None:
        self._client = client
        self._kubeconfig = kubeconfig
        self._world = world
        self._touched = touched
        self._queue: set[Key] = set()
        self._wake = asyncio.Event()
        self._listing = asyncio.Lock()
        self._versions: dict[str, int] = {}
        """Kind → resourceVersion of its last list."""

    @property
    def synced(self) -> bool:
        return self._versions.keys() == WATCHED.keys()

    async def run(self) -> None:
        """Follow all kinds for ever. Raises what kopf raises, and EtcdRestored."""
        await self._served()
        for kind in WATCHED:
            self._put((kind, "", ""))
        stop = threading.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kopf(stop))
                group.create_task(self._relist())
                await self._work()
        finally:
            stop.set()

    async def _served(self) -> None:
        """Wait until the API server serves all kinds: kopf would leave out for good those that come later."""
        for kind, resource in WATCHED.items():
            said = ""
            while True:
                try:
                    await self._client.list(resource, type=KINDS[kind])
                    break
                except ApiError as error:
                    if str(error) != said:
                        log.warning("kind is not served yet", extra={"kind": kind, "error": str(error)})
                    said = str(error)
                    await asyncio.sleep(RETRY)

    async def _kopf(self, stop: threading.Event) -> None:
        loop = asyncio.get_running_loop()

        def put(key: Key) -> None:
            loop.call_soon_threadsafe(self._put, key)

        registry = handlers(self._kubeconfig, put)
        await asyncio.to_thread(lambda: asyncio.run(operator(registry, stop)))
        if not stop.is_set():
            raise RuntimeError("kopf has ended")

    async def _relist(self) -> None:
        while True:
            await asyncio.sleep(RELIST)
            for kind in WATCHED:
                self._put((kind, "", ""))

    def _put(self, key: Key) -> None:
        self._queue.add(key)
        self._wake.set()

    async def adopt(self) -> None:
        """Fresh lists, for a new leader. Raises ApiError and EtcdRestored."""
        for kind in WATCHED:
            await self._read(kind, "", "")

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            queue, self._queue = self._queue, set()
            for key in sorted(queue):
                try:
                    await self._read(*key)
                except ApiError as error:
                    log.warning("reading failed", extra={"key": "/".join(key), "error": str(error)})
                    self._put(key)
                    await asyncio.sleep(RETRY)

    async def _read(self, kind: str, namespace: str, name: str) -> None:
        resource, record = WATCHED[kind], KINDS[kind]
        if name:
            shelf, key = self._world.shelves[kind], f"{namespace}/{name}" if namespace else name
            known = shelf.get(key)
            try:
                found = await self._client.get(resource, name, namespace=namespace, type=record)
                self._touched(self._world.put(kind, found))
            except NotFound:
                self._touched(self._world.remove(kind, known))
                if key in shelf:
                    self._put((kind, namespace, name))  # something came in between, from before or after
            return
        async with self._listing:  # of two lists at once, the older might come last
            listing = await self._client.list(resource, type=record)
        if listing.version < self._versions.get(kind, 0):
            raise EtcdRestored
        self._versions[kind] = listing.version
        objects = {obj.metadata.key: obj for obj in listing.items}
        self._touched(self._world.replace(kind, objects, listing.version))


def handlers(kubeconfig: Path | None, put: Callable[[Key], None]) -> kopf.OperatorRegistry:
    """A login from our kubeconfig, and one handler a kind."""
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(kubeconfig)

    kopf.on.login(registry=registry)(login)

    def handler(kind: str) -> Callable[..., None]:
        def changed(type: str | None, namespace: str | None, name: str | None, **_: Any) -> None:
            put((kind, namespace or "", name or "") if type else (kind, "", ""))

        return changed

    for kind, resource in WATCHED.items():
        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(handler(kind))
    return registry


async def connection(kubeconfig: Path | None) -> kopf.ConnectionInfo:
    """Asked for again when the API server refuses the last one: tokens rotate."""
    configuration = Configuration()
    if kubeconfig is None:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    scheme, _, token = (await configuration.get_api_key_with_prefix("BearerToken") or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host or "",
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


async def operator(registry: kopf.OperatorRegistry, stop: threading.Event) -> None:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = "tortie.io/none"
    await kopf.operator(
        registry=registry,
        settings=settings,
        identity=cast(Any, "tortie-operator"),  # else it asks DNS for this host's name, which may take seconds
        standalone=True,
        clusterwide=True,
        stop_flag=stop,
    )
