"""The eBPF reconciler against the real kernel, with pods that talk: what is desired comes, comes back, and stays."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tortie.nodeagent.desired import DatapathEndpoint
from tortie.nodeagent.kernel.reconcile import LOOK_AGAIN
from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.filters import attached
from tortie.nodeagent.maps.layout import FROM_POD, PROGRAMS, TO_POD
from tortie.nodeagent.maps.pins import Pins

from .objects import compiled
from .pods import NODE, NODE6, Node, Pod, Stream, drift, js, running, sh, until

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(60)]

DROPPING = 'SEC("tc") int from_pod(struct __sk_buff *skb) { return 2; }'
REFUSED = 'SEC("tc") int from_pod(struct __sk_buff *skb) { return *(int *)(long)skb->data; }'
OTHER_MAPS = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, __u32); __type(value, __u32);
         __uint(pinning, LIBBPF_PIN_BY_NAME); } endpoints_v1 SEC(".maps");
SEC("tc") int from_pod(struct __sk_buff *skb) { __u32 i = 0; return bpf_map_lookup_elem(&endpoints_v1, &i) ? 2 : -1; }
"""


@pytest.fixture
def uplink(own_network: None) -> None:
    sh("ip link add uplink type veth peer name other; ip link set uplink up; ip link set other up")
    sh(f"ip addr add {NODE}/24 dev uplink; ip addr add {NODE6}/64 dev uplink nodad")
    sh("ip route add default via 192.0.2.254")  # a pod's gateway is answered by proxy ARP, which takes a route to it


@pytest.fixture
def pods(uplink: None) -> Iterator[list[Pod]]:
    made = [Pod.start(number) for number in (2, 3)]
    yield made
    for pod in made:
        pod.stop()


@pytest.fixture
async def node(pods: list[Pod], bpf_dir: Path, bpffs: Path) -> AsyncIterator[Node]:
    """Both pods OPEN."""
    async with running(bpf_dir, bpffs) as started:
        started.want(*(pod.endpoint() for pod in pods))
        await started.settle()
        yield started


@pytest.fixture
def builds(bpf_dir: Path, tmp_path: Path) -> Path:
    """Object files that a test may replace."""
    return Path(shutil.copytree(bpf_dir, tmp_path / "builds"))


def another_build(builds: Path, number: int) -> None:
    """The same programs in files that differ."""
    for name in PROGRAMS:
        path = builds / f"{name}.bpf.o"
        path.write_bytes(path.read_bytes().rstrip(b"#") + b"#" * number)


def filters() -> dict[str, int]:
    """Device and program → id of the program that runs there."""
    return {
        f"{name} {program}": attached(index, program)
        for name, index in ((link["ifname"], link["ifindex"]) for link in js("ip -j link"))
        if name.startswith("cali")
        for program in PROGRAMS
    }


async def test_pods_talk_once_their_devices_are_guarded(node: Node, pods: list[Pod], bpffs: Path) -> None:
    for pod in pods:
        await until(lambda pod=pod: pod.answers(pod.ipv4) and pod.answers(pod.ipv6))
    assert pods[0].reaches(pods[1].ipv4)
    assert pods[0].reaches(pods[1].ipv6)
    assert pods[1].reaches(pods[0].ipv4)
    pins = Pins(bpffs)
    assert set(pins.map_ids()) == set(layout.MAPS)
    assert {program.name for program in pins.loaded()} == set(PROGRAMS)
    with pins.table(layout.ENDPOINTS) as table:
        assert {int.from_bytes(key, "little") for key, _ in table.items()} == {pod.ifindex for pod in pods}
    with pins.table(layout.NODES) as table:
        assert {key for key, _ in table.items()} == {layout.node_key(NODE), layout.node_key(NODE6)}


async def test_starting_repairs_nothing_and_settles(pods: list[Pod], bpf_dir: Path, bpffs: Path) -> None:
    before = drift()
    async with running(bpf_dir, bpffs) as node:
        node.want(pods[0].endpoint())
        await node.settle()
        await asyncio.sleep(2 * LOOK_AGAIN)
        await node.intact()
        assert node.settled()
    assert drift() == before


DAMAGE = {
    "ingress filter": "tc filter del dev cali2 ingress",
    "egress filter": "tc filter del dev cali2 egress",
    "qdisc": "tc qdisc del dev cali2 clsact",
    "foreign program in our place":
        "tc filter replace dev cali2 ingress pref 1 handle 0x746f7274 bpf da obj {dropping} sec tc",
    "entry deleted": "bpftool map delete pinned {maps}/endpoints_v1 key {key}",
    "entry changed": "bpftool map update pinned {maps}/endpoints_v1 key {key} value hex 01" + " 00" * 31,
    "entry added": "bpftool map update pinned {maps}/endpoints_v1 key hex ff 00 00 00 value hex 02" + " 00" * 31,
    "node deleted": "bpftool map delete pinned {maps}/nodes_v1 key hex" + " 00" * 10 + " ff ff c0 00 02 01",
    "map unpinned": "rm {maps}/endpoints_v1",
    "counters unpinned": "rm {maps}/drops_v1 {maps}/passed_v1",
    "all maps unpinned": "rm {maps}/*",
    "program unpinned": "rm {programs}/from_pod_*",
    "foreign program among ours": "bpftool prog pin pinned {programs}/to_pod_* {programs}/theirs",
    "everything unpinned": "rm -r {maps} {programs}",
}  # fmt: skip
HARMLESS = {"entry added", "node deleted", *(name for name in DAMAGE if "unpinned" in name or "among ours" in name)}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_someone_breaks_is_back_within_a_second(
    node: Node, pods: list[Pod], bpffs: Path, tmp_path: Path, damage: str
) -> None:
    """Also without losing a packet, where the damage itself loses none."""
    compiled(DROPPING, tmp_path / "dropping.o")
    pins, before = Pins(bpffs), drift()
    key = "hex " + " ".join(f"{byte:02x}" for byte in layout.endpoint_key(pods[0].ifindex))
    names = {"maps": pins.maps, "programs": pins.programs, "key": key, "dropping": tmp_path / "dropping.o"}
    await until(pods[0].answers)
    with Stream(pods[0].ipv4) as stream:
        await asyncio.sleep(0.2)
        sh(DAMAGE[damage].format(**names))
        await until(lambda: drift() > before)
        await node.intact()
        await until(pods[0].answers)
        await asyncio.sleep(0.2)
    assert node.settled()
    assert damage not in HARMLESS or stream.lost() == 0


@pytest.mark.parametrize("pin", ["endpoints_v1", "drops_v1"])
async def test_a_map_whose_pin_was_removed_keeps_what_it_holds(node: Node, bpffs: Path, pin: str) -> None:
    pins = Pins(bpffs)
    before, running_before = pins.map_ids(), filters()
    (pins.maps / pin).unlink()
    await node.intact()
    assert pins.map_ids() == before
    assert filters() == running_before


async def test_a_restart_adopts_what_is_there_without_losing_a_packet(
    pods: list[Pod], bpf_dir: Path, bpffs: Path
) -> None:
    async with running(bpf_dir, bpffs) as node:
        node.want(*(pod.endpoint() for pod in pods))
        await node.settle()
        await until(lambda: pods[0].answers() and pods[0].answers(pods[0].ipv6))
        before, maps = filters(), Pins(bpffs).map_ids()
    programs = {program.id for program in Pins(bpffs).loaded()}
    with (
        subprocess.Popen(["tc", "monitor"], stdout=subprocess.PIPE, text=True) as monitor,
        Stream(pods[0].ipv4) as four,
        Stream(pods[0].ipv6) as six,
    ):
        for _ in range(3):
            await asyncio.sleep(0.2)
            async with running(bpf_dir, bpffs) as node:
                node.want(*(pod.endpoint() for pod in pods))
                await node.settle()
                await node.intact()
        monitor.terminate()
        assert monitor.stdout is not None
        assert monitor.stdout.read() == ""
    assert (four.lost(), six.lost()) == (0, 0)
    assert filters() == before
    assert Pins(bpffs).map_ids() == maps
    assert {program.id for program in Pins(bpffs).loaded()} == programs


async def test_another_build_takes_over_under_traffic_without_loss(pods: list[Pod], builds: Path, bpffs: Path) -> None:
    async with running(builds, bpffs) as node:
        node.want(*(pod.endpoint() for pod in pods))
        await node.settle()
        await until(lambda: pods[0].answers() and pods[1].answers(pods[1].ipv6))
    maps, seen = Pins(bpffs).map_ids(), {tuple(filters().values())}
    with Stream(pods[0].ipv4) as four, Stream(pods[1].ipv6) as six:
        for number in range(1, 11):
            another_build(builds, number)
            async with running(builds, bpffs) as node:
                node.want(*(pod.endpoint() for pod in pods))
                await node.settle()
                await node.intact()
            seen.add(tuple(filters().values()))
    assert (four.lost(), six.lost()) == (0, 0)
    assert len(seen) == 11
    assert Pins(bpffs).map_ids() == maps
    assert len(Pins(bpffs).loaded()) == len(PROGRAMS)


async def test_the_program_of_the_file_is_the_one_that_runs(pods: list[Pod], builds: Path, bpffs: Path) -> None:
    compiled(DROPPING, builds / "from_pod.bpf.o")
    async with running(builds, bpffs) as node:
        node.want(pods[0].endpoint())
        await node.settle()
        assert not pods[0].answers()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("refused", "R1 offset is outside of the packet"),
        ("other maps", "endpoints_v1"),
        ("garbage", "from_pod"),
        ("empty", "from_pod"),
        ("gone", "No such file"),
    ],
)
async def test_a_build_that_does_not_load_leaves_the_old_one_in_force(
    pods: list[Pod], builds: Path, bpffs: Path, kind: str, why: str
) -> None:
    first, second = pods
    async with running(builds, bpffs) as node:
        node.want(first.endpoint())
        await node.settle()
        await until(first.answers)
    before, path = filters(), builds / "from_pod.bpf.o"
    good = path.read_bytes()
    match kind:
        case "refused":
            compiled(REFUSED, path)
        case "other maps":
            compiled(OTHER_MAPS, path)
        case "garbage":
            path.write_bytes(b"\x7fELF" + bytes(1000))
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
    drifted = drift()
    with Stream(first.ipv4) as stream:
        async with running(builds, bpffs) as node:
            node.want(first.endpoint(), second.endpoint())
            await until(lambda: node.errors)
            assert set(node.errors) == {"program/from_pod"}
            assert why in node.errors["program/from_pod"]
            await until(second.answers)
            assert filters()["cali2 from_pod"] == before["cali2 from_pod"] == filters()["cali3 from_pod"]
            await asyncio.sleep(0.5)
            assert drift() == drifted
            path.write_bytes(good)
            await node.settle(within=10)
    assert stream.lost() == 0
    assert filters()["cali2 from_pod"] == before["cali2 from_pod"]


async def test_without_any_program_a_pod_stays_unreachable(pods: list[Pod], builds: Path, bpffs: Path) -> None:
    path = builds / "to_pod.bpf.o"
    good = path.read_bytes()
    path.write_bytes(b"")
    async with running(builds, bpffs) as node:
        node.want(pods[0].endpoint())
        await until(lambda: "link/cali2" in node.errors)
        assert {"program/to_pod", "datapath/cali2", "link/cali2"} <= set(node.errors)
        assert "UP" not in js("ip -j link show dev cali2")[0]["flags"]
        assert not pods[0].answers()
        path.write_bytes(good)
        await until(pods[0].answers, within=10)
        await node.settle(within=10)


async def test_a_folder_that_is_no_bpffs_is_named(pods: list[Pod], bpf_dir: Path, tmp_path: Path) -> None:
    async with running(bpf_dir, tmp_path) as node:
        node.want(pods[0].endpoint())
        await until(lambda: node.errors)
        assert "not on BPF FS" in node.errors["program/from_pod"]
        assert "UP" not in js("ip -j link show dev cali2")[0]["flags"]


@pytest.mark.parametrize("hook", ["ingress", "egress"])
async def test_a_foreign_filter_is_left_alone_and_still_runs(
    pods: list[Pod], bpf_dir: Path, bpffs: Path, tmp_path: Path, hook: str
) -> None:
    """It drops everything, behind ours: that the pod is silent shows that ours lets the chain go on."""
    pod, foreign = pods[0], tmp_path / "dropping.o"
    compiled(DROPPING, foreign)
    for device in ("cali2", "uplink"):
        sh(f"tc qdisc add dev {device} clsact; tc filter add dev {device} {hook} pref 10 bpf da obj {foreign} sec tc")
    show = f"tc filter show dev cali2 {hook} pref 10; tc filter show dev uplink {hook}; tc qdisc show dev uplink"
    async with running(bpf_dir, bpffs) as node:
        node.want(pod.endpoint(), pods[1].endpoint())
        await node.settle()
        await until(pods[1].answers)
        assert not pod.answers()
        sh(f"tc filter del dev cali2 {hook} pref 10")
        await until(pod.answers)
        sh(f"tc filter add dev cali2 {hook} pref 10 bpf da obj {foreign} sec tc")
        before = sh(show)
        assert not pod.answers()
        node.want()
        await node.settle()
        await node.intact()
    assert sh(show) == before


async def test_a_device_that_is_not_there_yet_holds_nobody_up(node: Node, pods: list[Pod]) -> None:
    late = DatapathEndpoint("cali9", "PENDING", "10.65.0.9", "", "02:00:00:00:00:09")
    node.want(pods[0].endpoint("PENDING"), pods[1].endpoint(), late)
    await until(lambda: not pods[0].answers())
    assert pods[1].answers()
    assert not [item for item in node.errors if item.startswith(("datapath", "program"))]
    sh("ip link add cali9 type veth peer name nine")
    await until(lambda: filters().get("cali9 from_pod") and filters()["cali9 to_pod"])
    await node.intact()


async def test_a_pod_that_goes_is_no_repair_and_leaves_no_entry(node: Node, pods: list[Pod], bpffs: Path) -> None:
    before = drift()
    sh("ip link del cali2")
    node.want(pods[1].endpoint())
    await node.settle()
    await node.intact()
    with Pins(bpffs).table(layout.ENDPOINTS) as table:
        assert [key for key, _ in table.items()] == [layout.endpoint_key(pods[1].ifindex)]
    assert drift() == before


async def test_a_device_that_is_made_anew_is_guarded_anew(node: Node, pods: list[Pod]) -> None:
    sh("ip link del cali2; ip link add cali2 type veth peer name two")
    await until(lambda: filters()["cali2 from_pod"] and filters()["cali2 to_pod"])
    await node.intact()
    assert pods[1].answers()


async def test_what_is_no_longer_wanted_is_shut_and_not_opened(node: Node, pods: list[Pod], bpffs: Path) -> None:
    """Its device keeps the programs, which drop everything."""
    pod = pods[0]
    await until(pod.answers)
    before = filters()
    with Pins(bpffs).table(layout.DROPS) as table:
        node.want(pods[1].endpoint())
        await node.settle()
        await node.intact()
        assert filters() == before
        sh(f"ip route add {pod.ipv4} dev cali2 scope link")
        assert not pod.answers()
        counted = table.get(layout.drops_key(TO_POD, 1)) or b""
        assert sum(packets for packets, _ in layout.COUNTER.iter_unpack(counted)) > 0


async def test_more_node_addresses_than_there_is_room_for_are_reported_one_by_one(node: Node, pods: list[Pod]) -> None:
    many = tuple(f"10.{n // 256}.{n % 256}.1" for n in range(1030))
    node.want(*(pod.endpoint() for pod in pods), nodes=many)
    await until(lambda: node.errors)
    assert len(node.errors) == 6
    assert all(item.startswith("node/10.") and "map nodes_v1 is full" in m for item, m in node.errors.items())
    assert pods[0].answers()
    node.want(*(pod.endpoint() for pod in pods))
    await node.settle()
    await node.intact()


async def test_looking_costs_little_with_a_hundred_pods(uplink: None, bpf_dir: Path, bpffs: Path) -> None:
    """An agent at rest has 2 % of a core for everything; this is twice a second."""
    sh("for i in $(seq 110); do echo link add cali$i type veth peer name p$i; done | ip -batch -")
    many = [
        DatapathEndpoint(f"cali{n}", "OPEN", f"10.65.0.{n}", f"fd65::{n}", "02:00:00:00:00:01") for n in range(1, 111)
    ]
    async with running(bpf_dir, bpffs) as node:
        node.want(*many)
        began = time.monotonic()
        await node.settle(within=10)
        assert time.monotonic() - began < 5
        await asyncio.sleep(1)
        spent = time.process_time()
        await asyncio.sleep(4)
        assert (time.process_time() - spent) / 4 < 0.01
        assert all(filters()[f"cali{n} {FROM_POD}"] for n in range(1, 111))
