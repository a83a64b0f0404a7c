"""The client against a real API server: what it asks, what it makes of refusals, who it says it is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.config import incluster_config

from tortie.api.kubernetes import ConfigMap, Namespace
from tortie.api.meta import Metadata, Object
from tortie.kube import client as client_module
from tortie.kube import credentials
from tortie.kube.client import AlreadyExists, ApiError, Client, Conflict, NotFound, Resource
from tortie.kube.resources import CONFIG_MAP, EVENT, LEASE, NAMESPACE, NODE

from ..controlplane import TOKENS, Cluster
from .conftest import put
from .proxy import Proxy

REVIEW = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False)
TRAFFIC_LOST_AFTER = 0.5


async def who(client: Client) -> str:
    """The user that the API server takes us for."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": REVIEW.kind}
    review = await client.create(REVIEW, body, type=dict[str, Any])
    name: str = review["status"]["userInfo"]["username"]
    return name


async def test_an_object_is_created_read_replaced_patched_and_deleted(client: Client, namespace: str) -> None:
    made = ConfigMap(metadata=Metadata(name="one", labels={"a": "b"}), data={"k": "v"})
    created = await client.create(CONFIG_MAP, made, namespace=namespace, type=ConfigMap)
    assert created.data == {"k": "v"}
    assert created.metadata.version > 0
    assert await client.get(CONFIG_MAP, "one", namespace=namespace, type=ConfigMap) == created

    body = ConfigMap(metadata=created.metadata, data={"k": "w"})
    replaced = await client.replace(CONFIG_MAP, body, type=ConfigMap)
    assert replaced.data == {"k": "w"}
    assert replaced.metadata.version > created.metadata.version

    patched = await client.patch(
        CONFIG_MAP, "one", {"data": {"k": None, "l": "x"}}, namespace=namespace, type=ConfigMap
    )
    assert patched.data == {"l": "x"}
    assert patched.metadata.labels == {"a": "b"}

    await client.delete(CONFIG_MAP, "one", namespace=namespace)
    with pytest.raises(NotFound, match='configmaps "one" not found') as raised:
        await client.get(CONFIG_MAP, "one", namespace=namespace, type=ConfigMap)
    assert (raised.value.status, raised.value.reason) == (404, "NotFound")


async def test_a_json_patch_tests_what_it_changes(client: Client, namespace: str) -> None:
    await put(client, namespace, "one", k="v")
    change = [{"op": "test", "path": "/data/k", "value": "v"}, {"op": "replace", "path": "/data/k", "value": "w"}]

    async def patch() -> ConfigMap:
        return await client.patch(
            CONFIG_MAP, "one", change, namespace=namespace, type=ConfigMap, content_type="application/json-patch+json"
        )

    assert (await patch()).data == {"k": "w"}
    with pytest.raises(ApiError) as raised:
        await patch()
    assert (raised.value.status, raised.value.reason) == (422, "Invalid")


async def test_a_status_is_written_apart_from_its_object(client: Client) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "apart"}}
    await client.create(NODE, node, type=dict[str, Any])
    body = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}, "spec": {"unschedulable": True}}
    got = await client.patch(NODE, "apart", body, subresource="status", type=dict[str, Any])
    await client.delete(NODE, "apart")
    assert got["status"]["addresses"][0]["address"] == "192.0.2.1"
    assert "unschedulable" not in got["spec"]


async def test_a_write_from_an_old_version_is_a_conflict(client: Client, namespace: str) -> None:
    old = await put(client, namespace, "one")
    await put(client, namespace, "one")
    with pytest.raises(Conflict) as raised:
        await client.replace(CONFIG_MAP, old, type=ConfigMap)
    assert (raised.value.status, raised.value.reason) == (409, "Conflict")


async def test_creating_what_exists_is_told_from_a_conflict(client: Client, namespace: str) -> None:
    await put(client, namespace, "one")
    body = ConfigMap(metadata=Metadata(name="one"))
    with pytest.raises(AlreadyExists, match="already exists") as raised:
        await client.create(CONFIG_MAP, body, namespace=namespace, type=ConfigMap)
    assert not isinstance(raised.value, Conflict)
    assert (raised.value.status, raised.value.reason) == (409, "AlreadyExists")


async def test_a_deletion_may_be_tied_to_uid_and_version(client: Client, namespace: str) -> None:
    old = await put(client, namespace, "one")
    new = await put(client, namespace, "one")
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, "one", namespace=namespace, uid="1a68cbf5-25b5-43a5-a3a4-6a2b8f3b0c65")
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, "one", namespace=namespace, version=old.metadata.resource_version)
    await client.delete(
        CONFIG_MAP, "one", namespace=namespace, uid=new.metadata.uid, version=new.metadata.resource_version
    )


async def test_a_refusal_carries_what_the_api_server_said(client: Client, namespace: str) -> None:
    body = ConfigMap(metadata=Metadata(name="Not_A_Name"))
    with pytest.raises(ApiError, match=r'metadata\.name: Invalid value: "Not_A_Name"') as raised:
        await client.create(CONFIG_MAP, body, namespace=namespace, type=ConfigMap)
    assert (raised.value.status, raised.value.reason) == (422, "Invalid")


async def test_a_kind_that_is_not_served_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.list(Resource("none.example", "v1", "things", "Thing", namespaced=False), type=ConfigMap)


async def test_events_get_a_name_from_generate_name(client: Client) -> None:
    """Events of cluster-scoped objects live in the namespace `default`."""
    body = {
        "metadata": {"generateName": "node-1."},
        "involvedObject": {"kind": "Node", "name": "node-1"},
        "reason": "PoolFull",
        "message": "no address is left in 10.0.0.0/24",
        "type": "Warning",
    }
    names = {
        (await client.create(EVENT, body, namespace="default", type=dict[str, Any]))["metadata"]["name"]
        for _ in range(3)
    }
    assert len(names) == 3
    assert all(name.startswith("node-1.") for name in names)


@pytest.mark.parametrize(
    ("resource", "arguments"),
    [(CONFIG_MAP, ("one", "")), (CONFIG_MAP, ("", "default")), (NAMESPACE, ("one", "default")), (LEASE, ("", ""))],
)
def test_a_path_without_its_parts_is_refused(resource: Resource, arguments: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=resource.kind):
        resource.item(*arguments)


async def test_a_namespaced_object_is_not_created_without_a_namespace(client: Client) -> None:
    with pytest.raises(ValueError, match="ConfigMap to be created: namespace is missing"):
        await client.create(CONFIG_MAP, ConfigMap(metadata=Metadata(name="one")), type=ConfigMap)


async def test_a_long_list_comes_in_pages_and_is_complete(client: Client, namespace: str) -> None:
    names = {f"item-{number}" for number in range(1100)}
    await _create_all(client, namespace, names)
    pages = [page async for page in client.pages(CONFIG_MAP, namespace=namespace)]
    assert [len(page.items or ()) for page in pages] == [500, 500, 100]
    assert len({page.version for page in pages}) == 1
    listing = await client.list(CONFIG_MAP, namespace=namespace, type=ConfigMap)
    assert sorted(item.metadata.name for item in listing.items) == sorted(names)
    assert listing.version >= max(item.metadata.version for item in listing.items)


async def test_pages_are_of_one_moment_whatever_changes_meanwhile(client: Client, namespace: str) -> None:
    await _create_all(client, namespace, {f"item-{number}" for number in range(6)})
    first = await client.page(CONFIG_MAP, namespace=namespace, limit=3)
    await client.delete(CONFIG_MAP, "item-5", namespace=namespace)
    await put(client, namespace, "item-9")
    second = await client.page(CONFIG_MAP, namespace=namespace, limit=3, proceed=first.metadata.proceed)
    assert b"item-5" in b"".join(bytes(item) for item in second.items or ())
    assert b"item-9" not in b"".join(bytes(item) for item in second.items or ())
    assert second.version == first.version


async def test_a_list_is_cut_down_by_fields_and_labels(client: Client, namespace: str) -> None:
    for name, color in (("one", "red"), ("two", "red"), ("three", "blue")):
        made = ConfigMap(metadata=Metadata(name=name, labels={"color": color}))
        await client.create(CONFIG_MAP, made, namespace=namespace, type=ConfigMap)

    async def names(**selection: str) -> list[str]:
        listing = await client.list(CONFIG_MAP, namespace=namespace, type=ConfigMap, **selection)
        return [item.metadata.name for item in listing.items]

    assert await names(labels="color in (red,green)") == ["one", "two"]
    assert await names(fields="metadata.name=three") == ["three"]
    assert await names(fields="metadata.name=three", labels="color=red") == []


async def test_an_empty_list_has_a_version(client: Client, namespace: str) -> None:
    listing = await client.list(CONFIG_MAP, namespace=namespace, type=ConfigMap)
    assert listing.items == []
    assert listing.version > 0


async def test_an_answer_that_does_not_decode_names_the_field(client: Client, namespace: str) -> None:
    class Numbers(Object):
        metadata: Metadata
        data: dict[str, int]

    await put(client, namespace, "one", k="v")
    with pytest.raises(ApiError, match=r"Numbers: Expected `int`, got `str` - at `\$.data\[...\]`") as raised:
        await client.get(CONFIG_MAP, "one", namespace=namespace, type=Numbers)
    assert raised.value.reason == "Undecodable"


async def test_a_token_file_is_read_again_when_it_changes(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKENS["tester"] + "\n")
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", cluster.server, {"tokenFile": "token"})
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        assert await who(client) == "tester"
        fresh = tmp_path / "..data"
        fresh.write_text(TOKENS["other"])
        fresh.rename(token)
        assert await who(client) == "other"
        token.write_text("")  # a writer that is not done yet
        assert await who(client) == "other"
        token.unlink()
        with pytest.raises(ApiError, match="No such file") as raised:
            await who(client)
        assert raised.value.status == 0
        token.write_text(TOKENS["tester"])
        assert await who(client) == "tester"


async def test_an_unknown_token_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", cluster.server, {"token": "nobody"})
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        with pytest.raises(ApiError) as raised:
            await who(client)
    assert (raised.value.status, raised.value.reason) == (401, "Unauthorized")


async def test_a_client_certificate_says_who_we_are(cluster: Cluster, tmp_path: Path) -> None:
    pair = cluster.authority.issue("carol", "carol", ["system:masters"])
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", cluster.server, user)
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        assert await who(client) == "carol"


async def test_a_pod_uses_its_service_account(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKENS["tester"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(credentials, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(cluster.authority.pair.certificate))
    async with await Client.connect(None, user_agent="tortie-test") as client:
        assert await who(client) == "tester"
        token.write_text(TOKENS["other"])
        assert await who(client) == "other"


async def test_a_server_whose_certificate_names_another_host_gets_no_token(
    cluster: Cluster, tmp_path: Path, proxy: Proxy
) -> None:
    kubeconfig = cluster.write_kubeconfig(
        tmp_path / "kubeconfig", f"https://localhost:{proxy.port}", {"token": TOKENS["tester"]}
    )
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        with pytest.raises(ApiError, match="certificate") as raised:
            await who(client)
    assert (raised.value.status, raised.value.reason) == (0, "Connection")


async def test_no_server_is_an_error_without_status(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{port}", {"token": "x"})
    async with await Client.connect(kubeconfig, user_agent="tortie-test") as client:
        with pytest.raises(ApiError) as raised:
            await client.list(NAMESPACE, type=Namespace)
    assert (raised.value.status, raised.value.reason) == (0, "Connection")


async def test_a_request_without_an_answer_ends_in_time(
    distant: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", TRAFFIC_LOST_AFTER)
    await who(distant)
    proxy.stall()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ApiError) as raised:
        await who(distant)
    assert (raised.value.status, raised.value.reason) == (0, "Timeout")
    assert loop.time() - began < TRAFFIC_LOST_AFTER + 0.5
    proxy.flow()
    assert await who(distant) == "tester"


async def test_a_connection_that_died_while_idle_is_replaced(distant: Client, proxy: Proxy) -> None:
    await distant.list(NAMESPACE, type=Namespace)
    proxy.cut()
    await asyncio.sleep(0.05)
    assert (await distant.list(NAMESPACE, type=Namespace)).items


async def _create_all(client: Client, namespace: str, names: set[str]) -> None:
    for chunk in _chunks(sorted(names), 50):
        async with asyncio.TaskGroup() as group:
            for name in chunk:
                body = ConfigMap(metadata=Metadata(name=name))
                group.create_task(client.create(CONFIG_MAP, body, namespace=namespace, type=ConfigMap))


def _chunks(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
