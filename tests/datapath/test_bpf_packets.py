"""Real packets over a pod's veth: what a test run cannot show, and what the metrics say of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tortie.nodeagent.counters import DatapathCollector
from tortie.nodeagent.maps import layout
from tortie.nodeagent.marks import OWN_HOST, SEEN

from .frames import ACK, SYN, TCP, UDP, VLAN, arp, ethernet, ipv4, ipv6, tcp, udp
from .pods import NODE, NODE6, PORT, Node, Pod, running, sh, until

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(60)]

SOL_PACKET, PACKET_VNET_HDR, PACKET_QDISC_BYPASS = 263, 15, 20


@pytest.fixture
def pod(own_network: None) -> Iterator[Pod]:
    sh("ip link add uplink type veth peer name other; ip link set uplink up; ip link set other up")
    sh(f"ip addr add {NODE}/24 dev uplink; ip addr add {NODE6}/64 dev uplink nodad")
    sh("ip route add default via 192.0.2.254")  # a pod's gateway is answered by proxy ARP, which takes a route to it
    started = Pod.start(2)
    yield started
    started.stop()


@pytest.fixture
async def node(pod: Pod, bpf_dir: Path, bpffs: Path) -> AsyncIterator[Node]:
    async with running(bpf_dir, bpffs) as started:
        started.want(pod.endpoint())
        await started.settle()
        await until(lambda: pod.answers() and pod.answers(pod.ipv6))
        yield started


@pytest.fixture
def registry(bpffs: Path) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(DatapathCollector(bpffs))
    return made


def dropped(registry: CollectorRegistry, hook: str, reason: str, what: str = "packets") -> float:
    value = registry.get_sample_value(f"tortie_dropped_{what}_total", {"hook": hook, "reason": reason})
    assert value is not None
    return value


def connects(address: str, mark: int = 0) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        connection.settimeout(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            connection.connect((address, PORT))
            connection.sendall(b"hello")
            return connection.recv(5) == b"hello"
        except OSError:
            return False


async def test_a_pending_pod_is_reached_by_its_own_nodes_probes_and_nothing_else(
    node: Node, pod: Pod, registry: CollectorRegistry
) -> None:
    node.want(pod.endpoint("PENDING"))
    await node.settle()
    for address in (pod.ipv4, pod.ipv6):
        assert connects(address, OWN_HOST)
        assert not connects(address)
        assert not connects(address, SEEN)
        assert not pod.answers(address, mark=OWN_HOST)  # the question comes in, the answer is no TCP
    assert not pod.reaches(NODE)
    assert dropped(registry, "to_pod", "pending") > 0
    assert dropped(registry, "from_pod", "pending") > 0
    node.want(pod.endpoint())
    await node.settle()
    assert connects(pod.ipv4)
    assert connects(pod.ipv6)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (ethernet(VLAN, b"\0\1\x08\0" + ipv4("10.65.0.2", NODE, UDP, udp())[14:]), "ethertype"),
        (ethernet(VLAN, b"\0\1\x86\xdd" + ipv6("fd65::2", NODE6, UDP, udp())[14:]), "ethertype"),
        (ipv4("10.65.0.99", NODE, UDP, udp()), "source"),
        (ipv4(NODE, "10.65.0.99", TCP, tcp(SYN | ACK)), "source"),
        (ipv6("fd65::99", NODE6, UDP, udp()), "source"),
        (arp(2, "169.254.1.1", "10.65.0.2"), "neighbour"),
    ],
)
async def test_what_is_forged_on_the_wire_is_dropped_and_counted(
    node: Node, pod: Pod, registry: CollectorRegistry, frame: bytes, reason: str
) -> None:
    packets, size = (dropped(registry, "from_pod", reason, what) for what in ("packets", "bytes"))
    for _ in range(5):
        pod.send(frame)
    await until(lambda: dropped(registry, "from_pod", reason) == packets + 5)
    # A VLAN tag is taken out of the packet before the hook.
    taken = 4 if frame[12:14] == VLAN.to_bytes(2, "big") else 0
    assert dropped(registry, "from_pod", reason, "bytes") == size + 5 * (len(frame) - taken)


@pytest.mark.parametrize("frame", [ipv4("10.65.0.2", NODE, UDP, udp()), ipv6("fd65::2", NODE6, UDP, udp())])
async def test_no_length_below_that_of_the_header_passes(
    node: Node, pod: Pod, registry: CollectorRegistry, frame: bytes
) -> None:
    """A test run takes no frames that short."""
    shortest = 34 if frame[12:14] == b"\x08\0" else 54
    before = dropped(registry, "from_pod", "malformed")
    for length in range(14, shortest):
        pod.send(frame[:length])
    await until(lambda: dropped(registry, "from_pod", "malformed") == before + shortest - 14)
    pod.send(frame)
    await asyncio.sleep(0.05)
    assert dropped(registry, "from_pod", "malformed") == before + shortest - 14


@pytest.mark.parametrize(("source", "reason"), [("10.65.0.2", ""), ("10.65.0.99", "source")])
async def test_headers_outside_the_linear_part_are_read(
    node: Node, pod: Pod, registry: CollectorRegistry, source: str, reason: str
) -> None:
    """AF_PACKET with a virtio header leaves only as much of a large frame in the linear part as that says."""
    sh("ip link set cali2 mtu 9000")
    pod.sh("ip link set eth0 mtu 9000")
    payload = struct.pack("!HHHH", 1234, 5678, 7008, 0) + bytes(7000)
    frame = ipv4(source, NODE, UDP, payload)
    before = dropped(registry, "from_pod", "source")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((NODE, 5678))
        receiver.settimeout(0.3)
        with pod.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            raw.bind(("eth0", 0))
            raw.send(struct.pack("=BBHHHH", 0, 0, 14, 0, 0, 0) + frame)
        received = b""
        with contextlib.suppress(TimeoutError):
            received = receiver.recv(9000)
    assert received == (b"" if reason else payload[8:])
    assert dropped(registry, "from_pod", "source") == before + bool(reason)


async def test_large_segments_pass_both_ways(node: Node, pod: Pod) -> None:
    """GSO and GRO: packets of up to 64 KiB at the hooks."""
    sent = bytes(range(256)) * 4096 * 8
    for address in (pod.ipv4, pod.ipv6):
        connection = socket.create_connection((address, PORT), timeout=5)
        received = bytearray()
        with connection:
            sending = asyncio.create_task(asyncio.to_thread(connection.sendall, sent))
            while len(received) < len(sent):
                received += await asyncio.to_thread(connection.recv, 1 << 20)
            await sending
        assert received == sent


def test_a_veth_whose_host_end_is_down_passes_nothing(pod: Pod) -> None:
    """What makes it safe to attach programs after the device was made."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as host:
        host.bind(("cali2", 0))
        host.settimeout(0.3)
        frame = ipv4(pod.ipv4, NODE, UDP, udp())
        with pytest.raises(OSError, match="No buffer space"):
            pod.send(frame)
        with pytest.raises(OSError, match="Network is down"):
            host.recv(2048)
        with pytest.raises(OSError, match="Network is down"):
            host.send(frame)
        sh("ip link set cali2 up")
        pod.send(frame)
        assert any(host.recv(2048) == frame for _ in range(10))


def test_metrics_have_no_samples_before_the_programs_are_there(registry: CollectorRegistry) -> None:
    assert list(registry.collect()) == []


async def test_metrics_name_every_hook_and_reason(node: Node, pod: Pod, registry: CollectorRegistry) -> None:
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    named = {(s.name, s.labels.get("hook"), s.labels.get("reason")) for s in samples}
    for hook in layout.PROGRAMS:
        for what in ("packets", "bytes"):
            assert (f"tortie_passed_{what}_total", hook, None) in named
            for reason in layout.REASONS.values():
                assert (f"tortie_dropped_{what}_total", hook, reason) in named
    fill = {(s.name, s.labels["map"]): s.value for s in samples if "map" in s.labels}
    assert fill == {
        ("tortie_map_entries", "endpoints"): 1,
        ("tortie_map_max_entries", "endpoints"): 4096,
        ("tortie_map_entries", "nodes"): 2,
        ("tortie_map_max_entries", "nodes"): 1024,
    }
    before = registry.get_sample_value("tortie_passed_packets_total", {"hook": "from_pod"})
    assert pod.answers()
    after = registry.get_sample_value("tortie_passed_packets_total", {"hook": "from_pod"})
    assert before is not None
    assert after is not None
    assert after > before
