"""The control plane goes away and comes back: as it was, or as an older snapshot of etcd."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from tortie.api.kubernetes import ConfigMap, Namespace
from tortie.api.meta import Metadata
from tortie.kube.client import Client
from tortie.kube.informer import Informer
from tortie.kube.resources import CONFIG_MAP, NAMESPACE

from ..controlplane import Cluster, running
from .conftest import Recorder, put, watched


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane that is nobody else's, since it is stopped here."""
    with running(tmp_path_factory.mktemp("own")) as cluster:
        yield cluster


async def _create_namespace(client: Client, name: str) -> None:
    await client.create(NAMESPACE, Namespace(metadata=Metadata(name=name)), type=Namespace)


async def test_a_restart_of_the_control_plane_loses_nothing(own: Cluster) -> None:
    recorder = Recorder()
    async with await Client.connect(own.kubeconfig, user_agent="tortie-test") as client:
        await _create_namespace(client, "restart")
        await put(client, "restart", "one")
        await put(client, "restart", "two")
        informer = Informer(client, CONFIG_MAP, ConfigMap, listener=recorder, namespace="restart", name="restart")
        async with watched(informer, recorder):
            await asyncio.to_thread(own.stop)
            await asyncio.sleep(0.5)
            assert not informer.connected
            await asyncio.to_thread(own.start)
            await client.delete(CONFIG_MAP, "one", namespace="restart")
            three = await put(client, "restart", "three")
            await recorder.until(lambda: set(recorder.objects) == {"restart/two", "restart/three"}, within=20)
            assert recorder.objects["restart/three"] == three
            assert not any(each.rewound for each in recorder.lists)


async def test_etcd_restored_to_an_older_state_is_noticed_and_listed_anew(own: Cluster) -> None:
    """The API server lets a watch from a version that it has not reached wait in silence, and drops what happens."""
    recorder, fresh = Recorder(), Recorder()
    snapshot = own.directory / "snapshot"
    async with await Client.connect(own.kubeconfig, user_agent="tortie-test") as client:
        await _create_namespace(client, "restore")
        kept = await put(client, "restore", "kept")
        await put(client, "restore", "changed", n="old")
        await asyncio.to_thread(own.stop)
        shutil.copytree(own.data, snapshot)
        await asyncio.to_thread(own.start)

        informer = Informer(client, CONFIG_MAP, ConfigMap, listener=recorder, namespace="restore", name="restore")
        async with watched(informer, recorder):
            for number in range(300):
                last = await put(client, "restore", "changed", n=str(number))
            await put(client, "restore", "lost")
            await client.delete(CONFIG_MAP, "kept", namespace="restore")
            await recorder.until(lambda: "restore/kept" not in recorder.objects and "restore/lost" in recorder.objects)
            highest = recorder.versions[-1]

            await asyncio.to_thread(own.stop)
            shutil.rmtree(own.data)
            shutil.copytree(snapshot, own.data)
            await asyncio.to_thread(own.start)
            await recorder.until(lambda: recorder.lists[-1].rewound, within=20)
            restored = recorder.lists[-1]
            assert restored.version < highest
            assert set(restored.objects) == {"restore/kept", "restore/changed"}
            assert restored.objects["restore/kept"] == kept
            assert restored.objects["restore/changed"].data == {"n": "old"}

            again = await put(client, "restore", "again")
            assert again.metadata.version < last.metadata.version, "below what was seen before"
            await recorder.until(lambda: "restore/again" in recorder.objects)
            assert recorder.objects["restore/again"] == again
            assert sum(each.rewound for each in recorder.lists) == 1

        # One that starts now knows of no past.
        newcomer = Informer(client, CONFIG_MAP, ConfigMap, listener=fresh, namespace="restore", name="newcomer")
        async with watched(newcomer, fresh):
            assert [each.rewound for each in fresh.lists] == [False]
            assert fresh.objects == recorder.objects
