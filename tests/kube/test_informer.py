"""The informer against a real API server, behind a proxy that loses what real networks lose."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import urllib.request
from typing import Any

import pytest

from tortie.api.kubernetes import ConfigMap, Namespace
from tortie.api.meta import Metadata, Object
from tortie.kube import client as client_module
from tortie.kube import informer as informer_module
from tortie.kube.client import Client
from tortie.kube.informer import Gone, Informer, Put, Replaced
from tortie.kube.resources import CONFIG_MAP, EVENT, NAMESPACE

from ..controlplane import Cluster
from .conftest import Recorder, eventually, growing, put, sample, watched
from .proxy import Proxy

SEED = 20260301


class Strict(Object):
    """A ConfigMap that must say whether it is immutable: what most of Calico's kinds are like, with fields required."""

    metadata: Metadata
    immutable: bool


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def of_namespace(client: Client, namespace: str, recorder: Recorder, name: str = "") -> Informer[ConfigMap]:
    return Informer(client, CONFIG_MAP, ConfigMap, listener=recorder, namespace=namespace, name=name)


async def test_it_lists_and_then_tells_each_change_in_order(client: Client, namespace: str, recorder: Recorder) -> None:
    before = await put(client, namespace, "before")
    informer = of_namespace(client, namespace, recorder)
    assert not informer.connected
    assert not informer.synced
    async with watched(informer, recorder):
        added = await put(client, namespace, "one")
        changed = await put(client, namespace, "one")
        await client.delete(CONFIG_MAP, "one", namespace=namespace)
        await recorder.until(lambda: len(recorder.changes) == 4)
        assert informer.connected
    first, *others = recorder.changes
    key = f"{namespace}/one"
    assert first == Replaced({f"{namespace}/before": before}, first.version, rewound=False)
    assert others[:2] == [Put(key, added, added.metadata.version), Put(key, changed, changed.metadata.version)]
    gone = others[2]
    assert isinstance(gone, Gone)
    assert (gone.key, gone.obj and gone.obj.data) == (key, changed.data)
    assert gone.version > changed.metadata.version
    assert not informer.connected


async def test_keys_of_cluster_scoped_objects_are_names_and_selectors_hold_for_list_and_watch(
    client: Client, namespace: str, recorder: Recorder
) -> None:
    informer = Informer(client, NAMESPACE, Namespace, listener=recorder, fields=f"metadata.name={namespace}")
    async with watched(informer, recorder):
        assert set(recorder.objects) == {namespace}
        other = Namespace(metadata=Metadata(name=f"{namespace}-other"))
        await client.create(NAMESPACE, other, type=Namespace)
        await client.patch(NAMESPACE, namespace, {"metadata": {"labels": {"a": "b"}}}, type=Namespace)
        await recorder.until(lambda: len(recorder.versions) == 1)
        assert recorder.objects[namespace].metadata.labels["a"] == "b"


async def test_an_object_that_leaves_the_selection_is_gone(client: Client, namespace: str, recorder: Recorder) -> None:
    labelled = ConfigMap(metadata=Metadata(name="one", labels={"color": "red"}))
    await client.create(CONFIG_MAP, labelled, namespace=namespace, type=ConfigMap)
    informer = Informer(
        client, CONFIG_MAP, ConfigMap, listener=recorder, namespace=namespace, labels="color=red", name="red"
    )
    async with watched(informer, recorder):
        assert len(recorder.objects) == 1
        body = {"metadata": {"labels": {"color": "blue"}}}
        await client.patch(CONFIG_MAP, "one", body, namespace=namespace, type=ConfigMap)
        await recorder.until(lambda: not recorder.objects)
        assert isinstance(recorder.changes[-1], Gone)


async def test_bookmarks_move_the_version_on_and_the_normal_end_of_a_watch_loses_nothing(
    client: Client, namespace: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server sends a bookmark two seconds before it ends a watch. Their objects have no fields but versions."""
    monkeypatch.setattr(informer_module, "SECONDS", (3, 3))
    informer = Informer(client, CONFIG_MAP, Strict, listener=recorder, namespace=namespace, name="marks")
    with growing("tortie_watch_restarts_total", kind="marks", reason="ended"):
        async with watched(informer, recorder):
            elsewhere = await put(client, "default", "elsewhere")
            await recorder.until(
                lambda: bool(recorder.bookmarks) and recorder.bookmarks[-1] >= elsewhere.metadata.version
            )
            heard = informer.last_event
            await eventually(lambda: sample("tortie_watch_restarts_total", kind="marks", reason="ended") > 0)
            await put(client, namespace, "one", k="v")
            await client.patch(CONFIG_MAP, "one", {"immutable": True}, namespace=namespace, type=ConfigMap)
            await recorder.until(lambda: bool(recorder.objects))
            assert informer.last_event > heard
    assert len(recorder.lists) == 1
    assert sample("tortie_watch_restarts_total", kind="marks", reason="failed") == 0


async def test_random_cuts_lose_nothing_and_repeat_nothing(
    client: Client, distant: Client, proxy: Proxy, namespace: str, recorder: Recorder
) -> None:
    chance = random.Random(SEED)
    informer = of_namespace(distant, namespace, recorder, name="cut")
    written: list[int] = []
    async with watched(informer, recorder):
        for number in range(300):
            made = await put(client, namespace, f"item-{chance.randrange(20)}", n=str(number))
            written.append(made.metadata.version)
            if chance.random() < 0.05:
                proxy.cut()
                await asyncio.sleep(chance.random() * 0.1)
        await recorder.until(lambda: bool(recorder.versions) and recorder.versions[-1] >= written[-1])
    assert sample("tortie_watch_restarts_total", kind="cut", reason="failed") >= 5
    assert len(recorder.lists) == 1, "resumed, not listed again"
    assert recorder.versions == written


async def test_a_line_that_is_cut_in_the_middle_comes_again_as_a_whole(
    client: Client, distant: Client, proxy: Proxy, namespace: str, recorder: Recorder
) -> None:
    informer = of_namespace(distant, namespace, recorder, name="middle")
    async with watched(informer, recorder):
        small = await put(client, namespace, "small")
        await recorder.until(lambda: recorder.versions == [small.metadata.version])
        proxy.cut_after(200_000)
        big = await put(client, namespace, "big", text="x" * 600_000)
        await recorder.until(lambda: len(recorder.versions) > 1)
        assert recorder.versions == [small.metadata.version, big.metadata.version]
        assert recorder.objects[f"{namespace}/big"] == big
        # Many at once, so that pieces hold the end of one line and the beginning of the next.
        many = await asyncio.gather(*(put(client, namespace, f"big-{n}", text="y" * 100_000) for n in range(20)))
        await recorder.until(lambda: len(recorder.versions) == 22)
        assert recorder.versions[2:] == sorted(each.metadata.version for each in many)
    assert sample("tortie_watch_restarts_total", kind="middle", reason="failed") == 1
    assert len(recorder.lists) == 1


async def test_a_watch_that_falls_silent_is_cut_and_resumed(
    client: Client,
    distant: Client,
    proxy: Proxy,
    namespace: str,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network swallows everything of the old connection and tells nobody."""
    monkeypatch.setattr(client_module, "SILENCE", 1.0)
    informer = of_namespace(distant, namespace, recorder, name="silent")
    async with watched(informer, recorder):
        proxy.stall()
        lost = await put(client, namespace, "lost")
        with pytest.raises(TimeoutError):
            await recorder.until(lambda: bool(recorder.versions), within=0.5)
        proxy.forget()
        await recorder.until(lambda: bool(recorder.versions))
        assert recorder.versions == [lost.metadata.version]
    assert sample("tortie_watch_restarts_total", kind="silent", reason="stalled") >= 1
    assert len(recorder.lists) == 1


async def test_an_api_server_that_cannot_be_reached_is_asked_ever_less_often(
    distant: Client, proxy: Proxy, namespace: str, recorder: Recorder, client: Client
) -> None:
    informer = of_namespace(distant, namespace, recorder, name="away")
    async with watched(informer, recorder):
        proxy.refusing = True
        proxy.cut()
        before = proxy.accepted
        await asyncio.sleep(3.0)
        attempts = proxy.accepted - before
        assert 4 <= attempts <= 14, "0.1, 0.2, 0.4 … seconds, two connections an attempt at most"
        assert not informer.connected
        made = await put(client, namespace, "meanwhile")
        proxy.refusing = False
        await recorder.until(lambda: recorder.versions == [made.metadata.version])
    assert len(recorder.lists) == 1


async def test_versions_that_etcd_has_compacted_lead_to_a_new_list(
    cluster: Cluster, client: Client, distant: Client, proxy: Proxy, namespace: str, recorder: Recorder
) -> None:
    """On Events, which the API server reads from etcd and not from a cache of its own."""
    informer = Informer(distant, EVENT, ConfigMap, listener=recorder, namespace=namespace, name="compacted")
    first = await _event(client, namespace)
    async with watched(informer, recorder):
        proxy.refusing = True
        proxy.cut()
        await client.delete(EVENT, first, namespace=namespace)
        second = await _event(client, namespace)
        for _ in range(3):
            await put(client, namespace, "more")
        _compact(cluster, (await put(client, namespace, "more")).metadata.version)
        proxy.refusing = False
        await recorder.until(lambda: len(recorder.lists) == 2)
        assert set(recorder.objects) == {f"{namespace}/{second}"}
        assert not recorder.lists[-1].rewound
        third = await _event(client, namespace)
        await recorder.until(lambda: f"{namespace}/{third}" in recorder.objects)
    assert sample("tortie_watch_restarts_total", kind="compacted", reason="expired") == 1


async def test_objects_that_do_not_decode_are_counted_and_passed_over(
    client: Client, namespace: str, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    await put(client, namespace, "listed")
    informer = Informer(client, CONFIG_MAP, Strict, listener=recorder, namespace=namespace, name="strict")
    with caplog.at_level(logging.ERROR, logger="tortie.kube"):
        async with watched(informer, recorder):
            assert recorder.objects == {}
            await put(client, namespace, "odd")
            await client.patch(CONFIG_MAP, "listed", {"immutable": True}, namespace=namespace, type=ConfigMap)
            await recorder.until(lambda: set(recorder.objects) == {f"{namespace}/listed"})
            await client.delete(CONFIG_MAP, "odd", namespace=namespace)
            await recorder.until(lambda: len(recorder.changes) == 3)
    gone = recorder.changes[-1]
    assert isinstance(gone, Gone)
    assert (gone.key, gone.obj) == (f"{namespace}/odd", None)
    assert sample("tortie_watch_decode_failures_total", kind="strict") == 3
    assert "missing required field `immutable`" in caplog.records[0].__dict__["error"]
    assert caplog.records[0].__dict__["key"] == f"{namespace}/listed"
    assert informer.synced


async def test_what_a_listener_raises_ends_it(client: Client, namespace: str) -> None:
    def listener(_: Any) -> None:
        raise LookupError("no such thing")

    informer = Informer(client, CONFIG_MAP, ConfigMap, listener=listener, namespace=namespace)
    with pytest.raises(LookupError):
        await informer.run()


async def test_a_kind_that_is_not_served_yet_is_waited_for(client: Client, recorder: Recorder) -> None:
    resource = client_module.Resource("example.org", "v1", "lates", "Late", namespaced=False)
    informer = Informer(client, resource, Strict, listener=recorder, name="late")
    task = asyncio.create_task(informer.run())
    await eventually(lambda: sample("tortie_watch_restarts_total", kind="late", reason="failed") >= 2)
    assert not informer.synced
    task.cancel()


async def test_events_are_counted_by_kind(client: Client, namespace: str, recorder: Recorder) -> None:
    informer = of_namespace(client, namespace, recorder, name="counted")
    async with watched(informer, recorder):
        began = time.monotonic()
        for _ in range(5):
            await put(client, namespace, "one")
        await recorder.until(lambda: len(recorder.versions) == 5)
        assert informer.last_event > began
    assert sample("tortie_watch_events_total", kind="counted") == 5


async def _event(client: Client, namespace: str) -> str:
    body = {
        "metadata": {"generateName": "e."},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "Test",
    }
    name: str = (await client.create(EVENT, body, namespace=namespace, type=dict[str, Any]))["metadata"]["name"]
    return name


def _compact(cluster: Cluster, revision: int) -> None:
    """etcd's own API; a resourceVersion is an etcd revision."""
    body = json.dumps({"revision": revision, "physical": True}).encode()
    request = urllib.request.Request(f"{cluster.etcd}/v3/kv/compaction", body, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
