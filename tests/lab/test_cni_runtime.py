"""The kubelet stand-in as CNI's runtime: which calls a plugin gets, in which order, with what. No root is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tortie.lab.kubelet.cni import Attachment, Cni, CniError, parse

PLUGIN = f"""#!{sys.executable} -IS
import json, os, sys
here = os.path.dirname(os.path.abspath(sys.argv[0]))
name = os.path.basename(sys.argv[0])
text = json.load(sys.stdin)
with open(here + "/calls", "a") as calls:
    env = {{key: value for key, value in os.environ.items() if key.startswith("CNI_")}}
    calls.write(json.dumps({{"plugin": name, "env": env, "stdin": text}}) + "\\n")
command = os.environ["CNI_COMMAND"]
if os.path.exists(f"{{here}}/{{name}}.fails.{{command}}"):
    print(json.dumps({{"cniVersion": text["cniVersion"], "code": 50, "msg": "not now", "details": "no picture yet"}}))
    sys.exit(1)
if os.path.exists(f"{{here}}/{{name}}.dies.{{command}}"):
    sys.exit("Traceback: boom")
if command == "ADD":
    before = text.get("prevResult", {{"ips": []}})
    ips = before["ips"] + [{{"address": f"10.0.0.{{len(before['ips']) + 1}}/32"}}]
    print(json.dumps({{"cniVersion": text["cniVersion"], "ips": ips}}))
"""
ARGS = (("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web"))
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]
WEB = Attachment("c1", "/run/netns/web", ARGS, {"portMappings": PORTS})


class Node:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf, self.bin, self.cache = root / "net.d", root / "bin", root / "cache"
        for directory in (self.conf, self.bin):
            directory.mkdir()
        for name in ("first", "second"):
            (self.bin / name).write_text(PLUGIN)
            (self.bin / name).chmod(0o755)
        self.cni = Cni(self.conf, self.bin, self.cache)

    def configure(self, **more: Any) -> None:
        plugins = [{"type": "first", "colour": "red"}, {"type": "second", "capabilities": {"portMappings": True}}]
        document = {
            "cniVersion": "1.0.0",
            "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
            "name": "net",
            "plugins": plugins,
        }
        (self.conf / "10-net.conflist").write_text(json.dumps(document | more))

    def misbehave(self, plugin: str, command: str, how: str = "fails") -> Path:
        flag = self.bin / f"{plugin}.{how}.{command}"
        flag.touch()
        return flag

    def calls(self) -> list[dict[str, Any]]:
        """Since the last time."""
        file = self.bin / "calls"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        file.write_text("")
        return calls

    def commands(self) -> list[tuple[str, str]]:
        return [(call["env"]["CNI_COMMAND"], call["plugin"]) for call in self.calls()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.configure()
    return node


async def test_add_runs_the_chain_in_order_and_each_sees_the_result_before_it(node: Node) -> None:
    result = await node.cni.add(WEB)
    assert result == {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.1/32"}, {"address": "10.0.0.2/32"}]}
    first, second = node.calls()
    assert first["stdin"] == {"type": "first", "colour": "red", "name": "net", "cniVersion": "1.1.0"}
    assert second["stdin"]["prevResult"]["ips"] == [{"address": "10.0.0.1/32"}]
    assert second["stdin"]["runtimeConfig"] == {"portMappings": PORTS}
    assert first["env"] == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/web",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_PATH": str(node.bin),
    }


async def test_delete_runs_the_chain_backwards_with_the_result_of_add(node: Node) -> None:
    result = await node.cni.add(WEB)
    node.calls()
    restarted = Cni(node.conf, node.bin, node.cache)
    await restarted.delete(WEB)
    calls = node.calls()
    assert [call["plugin"] for call in calls] == ["second", "first"]
    assert all(call["stdin"]["prevResult"] == result for call in calls)
    await restarted.delete(WEB)
    calls = node.calls()
    assert [call["plugin"] for call in calls] == ["second", "first"]
    assert all("prevResult" not in call["stdin"] for call in calls)


async def test_a_failed_delete_keeps_the_result_for_the_next_one(node: Node) -> None:
    await node.cni.add(WEB)
    flag = node.misbehave("first", "DEL")
    with pytest.raises(CniError, match="not now: no picture yet") as caught:
        await node.cni.delete(WEB)
    assert caught.value.code == 50
    flag.unlink()
    node.calls()
    await node.cni.delete(WEB)
    assert all("prevResult" in call["stdin"] for call in node.calls())


async def test_a_failed_add_stops_the_chain_and_is_not_remembered(node: Node) -> None:
    node.misbehave("first", "ADD")
    with pytest.raises(CniError, match=r"plugin type='first' failed \(add\): not now: no picture yet"):
        await node.cni.add(WEB)
    assert node.commands() == [("ADD", "first")]
    await node.cni.delete(WEB)
    assert all("prevResult" not in call["stdin"] for call in node.calls())


async def test_a_plugin_that_says_nothing_sensible_is_quoted(node: Node) -> None:
    node.misbehave("first", "ADD", "dies")
    with pytest.raises(CniError, match="boom"):
        await node.cni.add(WEB)
    (node.bin / "first").unlink()
    with pytest.raises(CniError, match="failed to find plugin 'first'"):
        await node.cni.add(WEB)


async def test_check_asks_every_plugin_with_the_result_of_add(node: Node) -> None:
    await node.cni.check(WEB)
    assert node.commands() == []  # nothing to compare with
    result = await node.cni.add(WEB)
    node.calls()
    await node.cni.check(WEB)
    calls = node.calls()
    assert [(call["plugin"], call["stdin"]["prevResult"]) for call in calls] == [("first", result), ("second", result)]
    node.misbehave("second", "CHECK")
    with pytest.raises(CniError, match="not now"):
        await node.cni.check(WEB)
    node.configure(disableCheck=True)
    await node.cni.check(WEB)


async def test_garbage_is_deleted_and_the_plugins_are_told_what_is_valid(node: Node) -> None:
    other = Attachment("c2", "/run/netns/other", ARGS, {})
    await node.cni.add(WEB)
    await node.cni.add(other)
    node.calls()
    await node.cni.collect_garbage([("c2", "eth0")])
    calls = node.calls()
    assert [(call["env"]["CNI_COMMAND"], call["plugin"]) for call in calls] == [
        ("DEL", "second"),
        ("DEL", "first"),
        ("GC", "first"),
        ("GC", "second"),
    ]
    assert calls[0]["env"]["CNI_CONTAINERID"] == "c1"
    assert calls[0]["stdin"]["runtimeConfig"] == {"portMappings": PORTS}
    assert calls[2]["stdin"]["cni.dev/valid-attachments"] == [{"containerID": "c2", "ifname": "eth0"}]
    await node.cni.collect_garbage([("c2", "eth0")])
    assert node.commands() == [("GC", "first"), ("GC", "second")]


async def test_garbage_collection_tries_everything_before_it_fails(node: Node) -> None:
    await node.cni.add(WEB)
    node.misbehave("second", "DEL")
    node.misbehave("first", "GC")
    node.calls()
    with pytest.raises(CniError, match=r"\(del\)"):
        await node.cni.collect_garbage([])
    assert node.commands() == [("DEL", "second"), ("GC", "first"), ("GC", "second")]


async def test_status_is_what_the_plugins_say(node: Node) -> None:
    await node.cni.status()
    assert node.commands() == [("STATUS", "first"), ("STATUS", "second")]
    node.misbehave("second", "STATUS")
    with pytest.raises(CniError, match="no picture yet"):
        await node.cni.status()
    (node.conf / "10-net.conflist").unlink()
    with pytest.raises(CniError, match="no network config found"):
        await node.cni.status()


async def test_an_older_version_has_neither_status_nor_gc(node: Node) -> None:
    node.configure(cniVersions=["0.4.0", "1.0.0"])
    await node.cni.status()
    await node.cni.add(WEB)
    assert {call["stdin"]["cniVersion"] for call in node.calls()} == {"1.0.0"}
    await node.cni.collect_garbage([])
    assert node.commands() == [("DEL", "second"), ("DEL", "first")]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ({"cniVersion": "1.0.0"}, "1.0.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0"]}, "1.1.0"),
        ({"cniVersion": "1.1.0", "cniVersions": ["0.4.0", "1.0.0"]}, "1.1.0"),
        ({"cniVersions": ["0.4.0", "2.0.0"]}, "0.4.0"),
        ({}, "0.1.0"),
    ],
)
def test_the_highest_version_that_both_know_is_spoken(offered: dict[str, Any], chosen: str) -> None:
    assert parse({"name": "net", "plugins": [{"type": "first"}], **offered}).version == chosen


def test_a_configuration_without_a_list_is_a_list_of_one() -> None:
    network = parse({"name": "net", "cniVersion": "0.4.0", "type": "first"})
    assert [plugin["type"] for plugin in network.plugins] == ["first"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "net", "cniVersion": "nine", "plugins": [{"type": "x"}]}'])
async def test_a_configuration_that_cannot_be_read_is_named(node: Node, text: str) -> None:
    (node.conf / "10-net.conflist").write_text(text)
    with pytest.raises(CniError, match=r"10-net\.conflist"):
        await node.cni.status()


async def test_the_first_configuration_by_name_counts(node: Node) -> None:
    (node.conf / "05-other.conf").write_text(json.dumps({"name": "other", "cniVersion": "1.1.0", "type": "second"}))
    await node.cni.status()
    assert node.commands() == [("STATUS", "second")]
