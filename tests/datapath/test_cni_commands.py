"""The plugin as a runtime runs it, against the server over its socket: each command, and what it must not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tortie.api.internal import Endpoint, veth_name
from tortie.nodeagent.cni import attachments
from tortie.nodeagent.desired import GATEWAY6, HOST_MAC
from tortie.nodeagent.endpoints import EndpointRecord

from .runtime import PLUGIN, Agent, Entries, Pod, Runtime, inside, runtime, serving

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(60)]

WEB = Pod("c1")
FOUR, SIX = "10.65.0.2", "fd65::2"
VETH = veth_name("default", "web")
REFERENCE = Path("/usr/lib/cni")


@pytest.fixture
def rt(tmp_path: Path) -> Iterator[Runtime]:
    with runtime(tmp_path) as made:
        yield made


@dataclass
class Case:
    rt: Runtime
    agent: Agent

    @property
    def entries(self) -> Entries:
        return self.agent.entries

    @property
    def records(self) -> tuple[EndpointRecord, ...]:
        return self.agent.store.all()

    async def attached(self, pod: Pod = WEB, *addresses: str, **config: Any) -> Any:
        self.rt.start(pod)
        self.entries.publish(pod, *(addresses or (FOUR, SIX)))
        status, answer = await self.rt.add(pod, **config)
        assert status == 0, answer
        return answer


@pytest.fixture
async def case(rt: Runtime, own_network: None) -> AsyncIterator[Case]:
    async with serving(rt.home) as agent:
        yield Case(rt, agent)


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def devices(namespace: Path | None = None) -> dict[str, Any]:
    command = "ip -j -d addr"
    listed = json.loads(inside(namespace, command) if namespace else sh(command))
    return {each["ifname"]: each for each in listed}


def veths() -> set[str]:
    return {name for name in devices() if name != "lo"}


def half_make(sandbox: Path) -> None:
    """What an ADD leaves that was killed after its first step."""
    sh(f"ip link add {VETH} address {HOST_MAC} type veth peer name eth0; ip link set eth0 netns {sandbox}")
    assert "eth0" in devices(sandbox)


def failed(outcome: tuple[int, Any], code: int, *parts: str) -> None:
    status, answer = outcome
    assert status == 1
    assert answer["code"] == code, answer
    for part in parts:
        assert part in answer["msg"], answer


# ADD


async def test_add_gives_the_pod_its_addresses_and_routes(case: Case) -> None:
    answer = await case.attached()
    host, pod = devices()[VETH], devices(case.rt.sandbox("c1"))["eth0"]
    assert (host["address"], host["mtu"], pod["mtu"]) == (HOST_MAC, 1450, 1450)
    assert answer == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": VETH, "mac": HOST_MAC, "mtu": 1450},
            {"name": "eth0", "mac": pod["address"], "mtu": 1450, "sandbox": str(case.rt.sandbox("c1"))},
        ],
        "ips": [
            {"address": f"{FOUR}/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": f"{SIX}/128", "gateway": GATEWAY6, "interface": 1},
        ],
        "routes": [
            {"dst": "169.254.1.1/32", "scope": 253},
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": GATEWAY6},
        ],
        "dns": {},
    }
    carried = {(a["local"], a["prefixlen"], a.get("tentative")) for a in pod["addr_info"] if a["scope"] == "global"}
    assert carried == {(FOUR, 32, None), (SIX, 128, None)}
    routes = inside(case.rt.sandbox("c1"), "ip route; ip -6 route")
    assert "default via 169.254.1.1 dev eth0" in routes
    assert "169.254.1.1 dev eth0 proto static scope link" in routes
    assert f"default via {GATEWAY6} dev eth0" in routes


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
async def test_the_reference_plugins_understand_the_result(case: Case, version: str) -> None:
    """`tuning` decodes a prevResult and prints it again as it understood it; Debian's speaks up to 1.0.0."""
    case.rt.version = version
    answer = await case.attached()
    assert [address.get("version") for address in answer["ips"]] == (["4", "6"] if version == "0.4.0" else [None] * 2)
    config = {"cniVersion": version, "name": "n", "type": "tuning", "prevResult": answer}
    again = subprocess.run(
        [REFERENCE / "tuning"],
        input=json.dumps(config).encode(),
        capture_output=True,
        env={"CNI_COMMAND": "ADD", "CNI_PATH": str(REFERENCE)} | case.rt.variables(WEB),
    )
    assert again.returncode == 0, again.stdout
    assert json.loads(again.stdout) == answer


async def test_a_pod_of_one_family_gets_one(case: Case) -> None:
    answer = await case.attached(WEB, SIX)
    assert [address["address"] for address in answer["ips"]] == [f"{SIX}/128"]
    assert answer["routes"] == [{"dst": "::/0", "gw": GATEWAY6}]
    assert inside(case.rt.sandbox("c1"), "ip -4 route") == ""


async def test_nothing_is_up_on_the_host_before_the_agent_says_so(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def converge(record: EndpointRecord, timeout: float) -> bool:
        seen.append(devices()[record.host_ifname]["flags"])
        seen.append(case.agent.store.get("c1", "eth0"))
        return True

    monkeypatch.setattr(case.entries, "converge", converge)
    await case.attached()
    assert "UP" not in seen[0]
    assert seen[1] is not None


async def test_the_operators_mac_is_the_pods(case: Case) -> None:
    case.rt.start(WEB)
    case.entries.publish(WEB, FOUR, mac="02:00:00:00:be:ef")
    _, answer = await case.rt.add(WEB)
    assert answer["interfaces"][1]["mac"] == "02:00:00:00:be:ef"
    assert devices(case.rt.sandbox("c1"))["eth0"]["address"] == "02:00:00:00:be:ef"


async def test_dns_of_the_configuration_is_passed_on(case: Case) -> None:
    answer = await case.attached(dns={"nameservers": ["10.96.0.10"]})
    assert answer["dns"] == {"nameservers": ["10.96.0.10"]}


async def test_add_again_gives_the_same_and_repairs(case: Case) -> None:
    first = await case.attached()
    index = devices()[VETH]["ifindex"]
    inside(case.rt.sandbox("c1"), f"ip addr del {FOUR}/32 dev eth0; ip -6 route del default")
    assert await case.rt.add(WEB) == (0, first)
    assert devices()[VETH]["ifindex"] == index
    assert await case.rt.check(WEB) == (0, None)
    assert len(case.records) == 1


async def test_add_again_after_the_veth_was_lost_makes_a_new_one(case: Case) -> None:
    await case.attached()
    sh(f"ip link del {VETH}")
    assert (await case.rt.add(WEB))[0] == 0
    assert await case.rt.check(WEB) == (0, None)
    assert len(case.records) == 1


async def test_add_again_after_the_pod_was_given_other_addresses_makes_a_new_one(case: Case) -> None:
    await case.attached()
    case.entries.publish(WEB, "10.65.0.9")
    _, answer = await case.rt.add(WEB)
    assert [each["address"] for each in answer["ips"]] == ["10.65.0.9/32"]
    assert {
        each["local"] for each in devices(case.rt.sandbox("c1"))["eth0"]["addr_info"] if each["scope"] == "global"
    } == {"10.65.0.9"}
    assert await case.rt.check(WEB) == (0, None)


async def test_a_record_whose_device_was_replaced_is_not_believed(case: Case) -> None:
    await case.attached()
    sh(f"ip link del {VETH}")
    half_make(case.rt.sandbox("c1"))
    assert (await case.rt.add(WEB))[0] == 0
    assert await case.rt.check(WEB) == (0, None)


async def test_a_half_made_veth_is_replaced(case: Case) -> None:
    path = case.rt.start(WEB)
    half_make(path)
    case.entries.publish(WEB, FOUR)
    assert (await case.rt.add(WEB))[0] == 0
    assert await case.rt.check(WEB) == (0, None)


async def test_a_pod_of_the_same_name_takes_the_interface_over(case: Case) -> None:
    await case.attached()
    later = Pod("c2", uid="uid-2")
    await case.attached(later, "10.65.0.9")
    assert [record.container_id for record in case.records] == ["c2"]
    assert await case.rt.check(later) == (0, None)
    assert "eth0" not in devices(case.rt.sandbox("c1"))


async def test_a_sandbox_made_anew_for_the_same_pod_takes_the_interface_over(case: Case) -> None:
    await case.attached()
    later = replace(WEB, container="c2")
    case.rt.stop(WEB)
    answer = await case.attached(later)
    assert answer["ips"][0]["address"] == f"{FOUR}/32"
    assert await case.rt.delete(WEB) == (0, None)
    assert await case.rt.check(later) == (0, None)


async def test_only_one_interface_a_sandbox(case: Case) -> None:
    await case.attached()
    variables = case.rt.variables(WEB, CNI_IFNAME="net1")
    failed(await case.rt.execute("ADD", variables, case.rt.config()), 4, "CNI_IFNAME='net1'", "eth0")
    assert await case.rt.check(WEB) == (0, None)


async def test_an_interface_of_another_plugin_is_not_touched(case: Case) -> None:
    path = case.rt.start(WEB)
    inside(path, "ip link add eth0 type bridge")
    case.entries.publish(WEB, FOUR)
    failed(await case.rt.add(WEB), 4, "CNI_IFNAME='eth0'")
    assert devices(path)["eth0"]["linkinfo"]["info_kind"] == "bridge"
    assert not veths()
    assert not case.records


async def test_ipv6_works_where_the_runtime_disabled_it(case: Case) -> None:
    path = case.rt.start(WEB)
    inside(path, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
    case.entries.publish(WEB, FOUR, SIX)
    assert (await case.rt.add(WEB))[0] == 0
    assert await case.rt.check(WEB) == (0, None)
    assert sh("cat /proc/sys/net/ipv6/conf/default/disable_ipv6").strip() == "0"


async def test_the_namespace_travels_as_a_file_not_as_a_path(case: Case, tmp_path: Path) -> None:
    """The runtime's mounts are its own: what CNI_NETNS names is not there for the agent."""
    path = case.rt.start(WEB)
    case.entries.publish(WEB, FOUR)
    private = tmp_path / "private"
    private.touch()
    variables = case.rt.variables(WEB, CNI_NETNS=str(private))
    environment = " ".join(f"{key}='{value}'" for key, value in variables.items())
    config = json.dumps(case.rt.config())
    script = f"mount --bind {path} {private}; printf '%s' '{config}' | env {environment} CNI_COMMAND=ADD {PLUGIN}"
    process = await asyncio.create_subprocess_exec("unshare", "-m", "sh", "-c", script, stdout=subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    assert json.loads(printed)["interfaces"][1]["sandbox"] == str(private)
    assert "eth0" in devices(path)


async def test_a_pod_whose_policy_is_late_starts_pending(case: Case) -> None:
    case.entries.pending = True
    began = asyncio.get_running_loop().time()
    await case.attached(policySetupTimeoutSeconds=0.5)
    assert 0.5 < asyncio.get_running_loop().time() - began < 2


async def test_an_entry_that_comes_while_add_waits_is_taken(case: Case) -> None:
    case.rt.start(WEB)
    call = asyncio.create_task(case.rt.add(WEB))
    await asyncio.sleep(0.3)
    case.entries.publish(replace(WEB, uid="uid-of-an-earlier-one"), "10.65.0.77")
    await asyncio.sleep(0.1)
    assert not call.done()
    case.entries.publish(WEB, FOUR)
    status, answer = await call
    assert status == 0
    assert answer["ips"][0]["address"] == f"{FOUR}/32"


async def test_a_runtime_that_names_no_uid_gets_the_pod_of_that_name(case: Case) -> None:
    case.rt.start(WEB)
    case.entries.publish(WEB, FOUR)
    variables = case.rt.variables(WEB, CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
    assert (await case.rt.execute("ADD", variables, case.rt.config()))[0] == 0
    assert [record.uid for record in case.records] == [WEB.uid]


async def test_without_an_entry_the_runtime_shall_try_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "ENTRY_WITHIN", 0.2)
    case.rt.start(WEB)
    failed(await case.rt.add(WEB), 11, "default/web")
    case.entries.publish(WEB)
    failed(await case.rt.add(WEB), 11, "default/web")
    assert not veths()


async def test_the_operators_refusal_is_passed_on(case: Case) -> None:
    case.rt.start(WEB)
    case.entries.publish(WEB, error="no free address in pool 10.65.0.0/26")
    failed(await case.rt.add(WEB), 101, "default/web", "no free address in pool 10.65.0.0/26")
    assert not veths()


async def test_a_disk_that_refuses_the_record_leaves_nothing(case: Case) -> None:
    path = case.rt.start(WEB)
    case.entries.publish(WEB, FOUR)
    folder = case.rt.home / "run" / "endpoints"
    folder.rmdir()
    failed(await case.rt.add(WEB), 5, "record")
    assert not veths()
    assert "eth0" not in devices(path)
    folder.mkdir()
    assert (await case.rt.add(WEB))[0] == 0


async def test_an_address_that_the_kernel_refuses_leaves_nothing(case: Case) -> None:
    path = case.rt.start(WEB)
    case.entries.publish(WEB, "0.0.0.0", "ff02::1")
    failed(await case.rt.add(WEB), 100, "eth0")
    assert not veths()
    assert "eth0" not in devices(path)


# DEL


async def test_del_leaves_nothing_and_can_be_repeated(case: Case) -> None:
    await case.attached()
    for _ in range(3):
        assert await case.rt.delete(WEB) == (0, None)
    assert not veths()
    assert not case.records
    assert not list((case.rt.home / "run" / "endpoints").iterdir())
    assert "eth0" not in devices(case.rt.sandbox("c1"))


@pytest.mark.parametrize("netns", ["", "/nowhere"])
async def test_del_needs_no_namespace(case: Case, netns: str) -> None:
    await case.attached()
    case.rt.stop(WEB)
    assert await case.rt.delete(WEB, CNI_NETNS=netns) == (0, None)
    assert not veths()
    assert not case.records


async def test_del_needs_no_arguments(case: Case) -> None:
    await case.attached()
    assert await case.rt.delete(WEB, CNI_ARGS="", CNI_NETNS="") == (0, None)
    assert not veths()


async def test_del_of_the_unknown_succeeds(case: Case) -> None:
    await case.attached()
    assert await case.rt.delete(Pod("c9", name="other")) == (0, None)
    assert await case.rt.check(WEB) == (0, None)


async def test_a_late_del_does_not_touch_the_pod_of_the_same_name(case: Case) -> None:
    await case.attached()
    case.rt.stop(WEB)
    later = Pod("c2", uid="uid-2")
    await case.attached(later, "10.65.0.9")
    for pod in (WEB, replace(WEB, container="c0")):
        assert await case.rt.delete(pod, CNI_NETNS="") == (0, None)
    assert await case.rt.check(later) == (0, None)


async def test_del_removes_what_a_broken_add_left(case: Case) -> None:
    path = case.rt.start(WEB)
    half_make(path)
    assert await case.rt.delete(WEB) == (0, None)
    assert not veths()


# CHECK


BREAKAGES = {
    "ip link set eth0 down": "eth0 in the sandbox is down",
    f"ip addr del {FOUR}/32 dev eth0": f"no address {FOUR}/32",
    f"ip -6 addr del {SIX}/128 dev eth0": f"no address {SIX}/128",
    "ip route del default": "no route to 0.0.0.0/0 via 169.254.1.1",
    "ip -6 route del default": f"no route to ::/0 via {GATEWAY6}",
    "ip link set eth0 address 02:00:00:00:00:01": "mac 02:00:00:00:00:01",
    "ip link set eth0 mtu 1400": "mtu 1400, not 1450",
    "ip link set eth0 down; ip link set eth0 name eth7": "eth0 in the sandbox is not the other end",
}


@pytest.mark.parametrize("command", BREAKAGES)
async def test_check_sees_what_is_wrong_in_the_sandbox(case: Case, command: str) -> None:
    await case.attached()
    assert await case.rt.check(WEB) == (0, None)
    inside(case.rt.sandbox("c1"), command)
    failed(await case.rt.check(WEB), 102, "default/web", BREAKAGES[command])


async def test_check_sees_what_is_wrong_on_the_node(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await case.attached()

    async def converge(record: EndpointRecord, timeout: float) -> bool:
        return not case.entries.pending

    monkeypatch.setattr(case.entries, "converge", converge)
    sh(f"ip route del {FOUR}")
    failed(await case.rt.check(WEB), 102, f"no route to {FOUR} through {VETH}")
    sh(f"ip link set {VETH} down")
    failed(await case.rt.check(WEB), 102, f"{VETH} is down")
    case.entries.pending = True
    failed(await case.rt.check(WEB), 102, "PENDING")
    sh(f"ip link del {VETH}; ip link add {VETH} type bridge")
    failed(await case.rt.check(WEB), 102, f"{VETH} with index", "is gone")


async def test_check_compares_with_what_the_runtime_remembers(case: Case) -> None:
    answer = await case.attached()
    ips = [answer["ips"][0] | {"address": "10.65.0.99/32"}]
    failed(await case.rt.check(WEB, prevResult=answer | {"ips": ips}), 102, f"no address {FOUR}/32")
    failed(await case.rt.check(WEB, prevResult=answer | {"interfaces": []}), 102, "no interface eth0")
    failed(await case.rt.check(WEB, prevResult=None), 7, "prevResult")
    more = [*answer["routes"], {"dst": "10.9.0.0/16", "gw": "10.65.0.7"}]
    assert await case.rt.check(WEB, prevResult=answer | {"routes": more}) == (0, None)


async def test_check_of_the_unknown_fails(case: Case) -> None:
    await case.attached()
    case.rt.results["c9"] = case.rt.results["c1"]
    case.rt.start(Pod("c9"))
    failed(await case.rt.check(Pod("c9")), 3, "c9")
    failed(await case.rt.execute("CHECK", case.rt.variables(WEB, CNI_NETNS="/nowhere"), case.rt.config(
        prevResult=case.rt.results["c1"])), 4, "/nowhere", "No such file")  # fmt: skip


async def test_check_passes_in_every_version(case: Case) -> None:
    for version in ("0.4.0", "1.0.0", "1.1.0"):
        case.rt.version = version
        assert (await case.rt.add(WEB) if case.records else (0, await case.attached()))[0] == 0
        assert await case.rt.check(WEB) == (0, None)


# GC, STATUS


async def test_gc_keeps_what_is_valid_and_nothing_else(case: Case) -> None:
    pods = [Pod(f"c{n}", name=f"web-{n}", uid=f"u{n}") for n in range(4)]
    for n, pod in enumerate(pods):
        await case.attached(pod, f"10.65.0.{n + 10}")
    case.rt.stop(pods[3])
    sh(f"ip link add cali00000000001 address {HOST_MAC} type veth peer name half")
    sh("ip link add cali00000000002 address ee:ee:ee:ee:ee:ee up type veth peer name calicos")
    assert await case.rt.collect(pods[0]) == (0, None)
    assert [record.container_id for record in case.records] == ["c0"]
    assert veths() == {veth_name("default", "web-0"), "cali00000000002", "calicos"}
    assert await case.rt.check(pods[0]) == (0, None)


async def test_gc_without_a_list_is_refused_but_null_is_an_empty_one(case: Case) -> None:
    await case.attached()
    failed(await case.rt.execute("GC", {}, case.rt.config()), 7, "cni.dev/valid-attachments")
    assert await case.rt.check(WEB) == (0, None)
    assert await case.rt.execute("GC", {}, case.rt.config(**{"cni.dev/valid-attachments": None})) == (0, None)
    assert not veths()


async def test_status_says_why_not(case: Case) -> None:
    assert await case.rt.execute("STATUS", {}, case.rt.config()) == (0, None)
    case.entries.unready = "the first complete picture is not in the kernel yet"
    failed(await case.rt.execute("STATUS", {}, case.rt.config()), 50, "first complete picture")
    case.rt.start(WEB)
    failed(await case.rt.add(WEB), 11, "first complete picture")


@pytest.mark.parametrize("command", ["GC", "STATUS"])
async def test_commands_of_1_1_need_it(case: Case, command: str) -> None:
    case.rt.version = "1.0.0"
    failed(await case.rt.execute(command, {}, case.rt.config()), 1, "1.0.0", command)


# Errors


async def test_what_is_no_sandbox_is_refused(case: Case, tmp_path: Path) -> None:
    case.entries.publish(WEB, FOUR)
    (tmp_path / "file").write_text("x")
    for path, reason in (
        ("/nowhere", "No such file"),
        (str(tmp_path / "file"), "no network namespace"),
        ("/proc/self/ns/net", "the node's own"),
        ("/proc/self/ns/mnt", "no network namespace"),
    ):
        failed(await case.rt.execute("ADD", case.rt.variables(WEB, CNI_NETNS=path), case.rt.config()), 4, path, reason)
    assert not veths()


async def test_an_unknown_command_is_refused(case: Case) -> None:
    failed(await case.rt.execute("MUL", case.rt.variables(WEB), case.rt.config()), 4, "CNI_COMMAND='MUL'")
    failed(await case.rt.execute("", case.rt.variables(WEB), case.rt.config()), 4, "CNI_COMMAND")


async def test_a_failure_of_ours_is_an_error_and_not_silence(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def entry(namespace: str, name: str, uid: str, timeout: float) -> Endpoint:
        raise RuntimeError("boom")

    monkeypatch.setattr(case.entries, "entry", entry)
    case.rt.start(WEB)
    failed(await case.rt.add(WEB), 999, "RuntimeError: boom")
    assert await case.rt.execute("STATUS", {}, case.rt.config()) == (0, None)


async def test_calls_and_errors_are_counted(case: Case) -> None:
    def samples() -> list[float]:
        labels = [("seconds_count", {"command": "DEL"}), ("errors_total", {"command": "ADD", "code": "4"})]
        return [REGISTRY.get_sample_value(f"tortie_cni_{name}", each) or 0.0 for name, each in labels]

    before = samples()
    await case.rt.delete(WEB)
    failed(await case.rt.add(WEB), 4)
    assert samples() == [before[0] + 1, before[1] + 1]


# Many at once


async def test_calls_for_different_sandboxes_run_in_parallel(case: Case) -> None:
    slow, quick = WEB, Pod("c2", name="api", uid="u2")
    case.rt.start(slow)
    waiting = asyncio.create_task(case.rt.add(slow))
    await asyncio.sleep(0.1)
    await case.attached(quick, "10.65.0.3")
    assert not waiting.done()
    case.entries.publish(slow, FOUR)
    assert (await waiting)[0] == 0


async def test_many_at_once_get_each_their_own(case: Case) -> None:
    pods = [Pod(f"c{n}", name=f"web-{n}", uid=f"u{n}") for n in range(30)]
    for n, pod in enumerate(pods):
        case.rt.start(pod)
        case.entries.publish(pod, f"10.65.0.{n + 10}")
    outcomes = await asyncio.gather(*map(case.rt.add, pods))
    assert [answer["ips"][0]["address"] for _, answer in outcomes] == [f"10.65.0.{n + 10}/32" for n in range(30)]
    assert {(0, None)} == set(await asyncio.gather(*map(case.rt.check, pods)))
    assert {(0, None)} == set(await asyncio.gather(*map(case.rt.delete, pods)))
    assert not veths()


async def test_calls_for_one_sandbox_take_turns(case: Case) -> None:
    case.rt.start(WEB)
    case.entries.publish(WEB, FOUR)
    outcomes = await asyncio.gather(*(case.rt.add(WEB) for _ in range(5)))
    assert all(outcome == outcomes[0] and outcome[0] == 0 for outcome in outcomes)
    assert await case.rt.check(WEB) == (0, None)
    await asyncio.gather(*(case.rt.add(WEB) if n % 2 else case.rt.delete(WEB) for n in range(8)))
    assert await case.rt.delete(WEB) == (0, None)
    assert not veths()
    assert not case.records


async def test_sandboxes_of_one_name_at_once_leave_one_whole(case: Case) -> None:
    pods = [replace(WEB, container=f"c{n}") for n in range(6)]
    for pod in pods:
        case.rt.start(pod)
    case.entries.publish(WEB, FOUR, SIX)
    assert all(status == 0 for status, _ in await asyncio.gather(*map(case.rt.add, pods)))
    (record,) = case.records
    assert await case.rt.check(replace(WEB, container=record.container_id)) == (0, None)
    assert veths() == {VETH}


async def test_no_descriptor_is_left_open(case: Case) -> None:
    await case.attached()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(20):
        await case.rt.add(WEB)
        await case.rt.check(WEB)
        await case.rt.delete(replace(WEB, container=f"x{n}"))
        await case.rt.execute("ADD", case.rt.variables(WEB, CNI_NETNS="/proc/self/ns/mnt"), case.rt.config())
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_plugin_that_breaks_off_harms_nobody(case: Case) -> None:
    for said in (b"", b"CNI_COMMAND=ADD", b"\0\0", b"\xff\0\0{", b"CNI_COMMAND=ADD\0\0{"):
        reader, writer = await asyncio.open_unix_connection(str(case.rt.socket))
        writer.write(said)
        writer.write_eof()
        await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    assert await case.rt.execute("STATUS", {}, case.rt.config()) == (0, None)
