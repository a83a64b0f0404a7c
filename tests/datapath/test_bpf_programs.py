"""Each program, byte by byte: what it does with a frame (BPF_PROG_TEST_RUN), what it counts, what it marks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tortie.nodeagent.desired import DatapathEndpoint, State
from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.maps.libbpf import opened
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.policy import PolicyMaps
from tortie.nodeagent.maps.table import Table
from tortie.nodeagent.maps.testrun import Result, run
from tortie.nodeagent.marks import JUDGED, MASK, OWN_HOST, SEEN
from tortie.nodeagent.policy.columns import Columns

from .frames import (
    ACK,
    ADVERT,
    ALL_NODES,
    ALL_ROUTERS,
    ARP,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    IPV4,
    IPV6,
    MLD2_REPORT,
    MLD_ROUTERS,
    REDIRECT,
    ROUTER_ADVERT,
    ROUTER_SOLICIT,
    RST,
    SOLICIT,
    SYN,
    TCP,
    UDP,
    VLAN,
    arp,
    ethernet,
    hop_by_hop,
    icmp6,
    ipv4,
    ipv6,
    neighbour,
    packed,
    tcp,
    udp,
)
from .policies import permissive

DEVICE = 1
"""lo: the programs ask for an index, not for a kind of device."""
POD, POD6, LINK6 = "10.65.0.2", "fd65::2", "fe80::2"
NODE, NODE6, GATEWAY6 = "192.0.2.1", "2001:db8::1", "fe80::ecee:eeff:feee:eeee"
OTHER, OTHER6 = "10.65.0.3", "fd65::3"
UNSPEC, SHOT = -1, 2
PASS = ""


@dataclass
class Bench:
    """Both programs, loaded over maps of their own, with a policy that allows everything."""

    programs: dict[str, int]
    endpoints: Table
    drops: Table
    passed: Table
    conns: Table
    fragments: Table

    def have(self, state: State | None, ipv4: str = POD, ipv6: str = POD6) -> None:
        """The endpoint in that state; None: no entry."""
        key = layout.endpoint_key(DEVICE)
        if state:
            self.endpoints.put(key, layout.endpoint_value(state, ipv4, ipv6, "02:00:00:00:00:01"))
            for table in (self.conns, self.fragments):
                table.delete_all([each for each, _ in table.items()])
        else:
            self.endpoints.delete(key)

    def counted(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(program, reason or PASS) → packets, bytes."""
        found = {}
        for number, program in enumerate(layout.PROGRAMS):
            found[program, PASS] = total(self.passed.get(layout.array_key(number)))
            for reason in range(layout.REASONS_ROOM):
                label = layout.REASONS.get(reason, f"unknown reason {reason}")
                found[program, label] = total(self.drops.get(layout.drops_key(program, reason)))
        return found

    def judge(self, program: str, frame: bytes, mark: int = 0) -> tuple[str, Result]:
        """Why it was dropped, by the only counter that moved; PASS if it was not."""
        before = self.counted()
        result = run(self.programs[program], frame, ifindex=DEVICE, mark=mark)
        after = self.counted()
        moved = {key: (now[0] - before[key][0], now[1] - before[key][1]) for key, now in after.items()}
        ((counter, reason),) = (key for key, delta in moved.items() if delta != (0, 0))
        assert moved[counter, reason] == (1, len(frame))
        assert counter == program
        assert result.verdict == (UNSPEC if reason == PASS else SHOT)
        assert result.packet == frame
        return reason, result


def total(value: bytes | None) -> tuple[int, int]:
    counters = list(layout.COUNTER.iter_unpack(value or b""))
    return sum(packets for packets, _ in counters), sum(size for _, size in counters)


@pytest.fixture(scope="module")
def bench(bpf_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bpffs = tmp_path_factory.mktemp("bpffs")
    assert not os.system(f"mount -t bpf bpf {bpffs}")
    try:
        pins = Pins(bpffs)
        for name in layout.PROGRAMS:
            pins.load(name, (bpf_dir / f"{name}.bpf.o").read_bytes())
        programs = {each.name: opened(pins.programs / each.pin) for each in pins.loaded()}
        with pins.table(layout.NODES) as nodes:
            for address in (NODE, NODE6):
                nodes.put(layout.node_key(address), layout.MEMBER)
        with (
            pins.table(layout.ENDPOINTS) as endpoints,
            pins.table(layout.DROPS) as drops,
            pins.table(layout.PASSED) as passed,
            pins.table(layout.CONNS) as conns,
            pins.table(layout.FRAGMENTS) as fragments,
            contextlib.closing(PolicyMaps(pins)) as maps,
        ):
            image = permissive([DatapathEndpoint("lo", "OPEN", POD, POD6, "")])
            maps.make(Columns().change(image, {"lo": DEVICE}).writes)
            yield Bench(programs, endpoints, drops, passed, conns, fragments)
        for fd in programs.values():
            os.close(fd)
    finally:
        assert not os.system(f"umount {bpffs}")


class Case(NamedTuple):
    """What happens to a frame of a pod; `when_pending` "same": as `when_open`."""

    name: str
    frame: bytes
    when_open: str
    when_pending: str = "same"


ARP_HEAD = b"\0\1\x08\0\6\4"
"""Ethernet, IPv4 and the lengths of their addresses."""
FROM = [
    Case("tcp", ipv4(POD, OTHER, TCP, tcp(SYN)), PASS, "pending"),
    Case("tcp with options", ipv4(POD, OTHER, TCP, tcp(SYN), options=bytes(8)), PASS, "pending"),
    Case("udp", ipv4(POD, OTHER, UDP, udp()), PASS, "pending"),
    Case("udp to own node", ipv4(POD, NODE, UDP, udp()), PASS, "pending"),
    Case("ping to own node", ipv4(POD, NODE, ICMP, bytes(8)), PASS, "pending"),
    Case("answer to a probe", ipv4(POD, NODE, TCP, tcp(SYN | ACK)), PASS),
    Case("refusal of a probe", ipv4(POD, NODE, TCP, tcp(RST | ACK)), PASS),
    Case("answer behind IP options", ipv4(POD, NODE, TCP, tcp(ACK), options=bytes(40)), PASS),
    Case("flags that only IP options would hide",
         ipv4(POD, NODE, TCP, tcp(SYN), options=b"\x10" * 40), PASS, "pending"),
    Case("connection to own node", ipv4(POD, NODE, TCP, tcp(SYN)), PASS, "pending"),
    Case("answer to another node", ipv4(POD, "192.0.2.2", TCP, tcp(SYN | ACK)), PASS, "pending"),
    Case("first fragment of an answer", ipv4(POD, NODE, TCP, tcp(ACK), fragment=0x2000), PASS),
    Case("later fragment", ipv4(POD, NODE, TCP, tcp(ACK), fragment=0x0001), "fragment", "pending"),
    Case("spoofed", ipv4(OTHER, NODE, TCP, tcp(ACK)), "source"),
    Case("spoofed node", ipv4(NODE, OTHER, UDP, udp()), "source"),
    Case("no source (DHCP)", ipv4("0.0.0.0", "255.255.255.255", UDP, udp()), "source"),
    Case("version 5", ethernet(IPV4, b"\x55" + ipv4(POD, OTHER, UDP, udp())[15:]), "malformed"),
    Case("header of 16 bytes", ethernet(IPV4, b"\x44" + ipv4(POD, OTHER, UDP, udp())[15:]), "malformed"),
    Case("arp request", arp(1, POD, "169.254.1.1"), PASS),
    Case("arp answer", arp(2, POD, "169.254.1.1"), PASS),
    Case("arp probe for duplicates", arp(1, "0.0.0.0", POD), PASS),
    Case("arp answer of nobody", arp(2, "0.0.0.0", POD), "neighbour"),
    Case("arp request as another", arp(1, OTHER, "169.254.1.1"), "neighbour"),
    Case("arp answer as the gateway", arp(2, "169.254.1.1", POD), "neighbour"),
    Case("arp of another hardware", arp(1, POD, OTHER).replace(ARP_HEAD, b"\0\2\x08\0\6\4"), "malformed"),
    Case("arp of another protocol", arp(1, POD, OTHER).replace(ARP_HEAD, b"\0\1\x08\1\6\4"), "malformed"),
    Case("arp of long addresses", arp(1, POD, OTHER).replace(ARP_HEAD, b"\0\1\x08\0\x08\4"), "malformed"),
    Case("v6 tcp", ipv6(POD6, OTHER6, TCP, tcp(SYN)), PASS, "pending"),
    Case("v6 udp to own node", ipv6(POD6, NODE6, UDP, udp()), PASS, "pending"),
    Case("v6 answer to a probe", ipv6(POD6, NODE6, TCP, tcp(SYN | ACK)), PASS),
    Case("v6 connection to own node", ipv6(POD6, NODE6, TCP, tcp(SYN)), PASS, "pending"),
    Case("v6 answer to another node", ipv6(POD6, "2001:db8::2", TCP, tcp(ACK)), PASS, "pending"),
    Case("v6 fragment", ipv6(POD6, NODE6, FRAGMENT, bytes([TCP, 0, 0, 0, 0, 0, 0, 1]) + tcp(ACK)), PASS, "pending"),
    Case("v6 spoofed", ipv6(OTHER6, NODE6, TCP, tcp(ACK)), "source"),
    Case("v6 from a link-local address", ipv6(LINK6, OTHER6, TCP, tcp(SYN)), "source"),
    Case("v6 no source", ipv6("::", OTHER6, UDP, udp()), "source"),
    Case("version 5 as v6", ethernet(IPV6, b"\x50" + ipv6(POD6, OTHER6, UDP, udp())[15:]), "malformed"),
    Case("ping v6", ipv6(POD6, OTHER6, ICMP6, icmp6(128)), PASS, "pending"),
    Case("solicitation", ipv6(POD6, "ff02::1:ff00:1", ICMP6, neighbour(SOLICIT, GATEWAY6), hops=255), PASS),
    Case("solicitation from its link", ipv6(LINK6, GATEWAY6, ICMP6, neighbour(SOLICIT, GATEWAY6), hops=255), PASS),
    Case("probe for duplicates", ipv6("::", "ff02::1:ff00:2", ICMP6, neighbour(SOLICIT, POD6), hops=255), PASS),
    Case("solicitation as another", ipv6(OTHER6, GATEWAY6, ICMP6, neighbour(SOLICIT, GATEWAY6), hops=255), "source"),
    Case("solicitation that was routed", ipv6(LINK6, GATEWAY6, ICMP6, neighbour(SOLICIT, GATEWAY6)), "source"),
    Case("solicitation off the link", ipv6(POD6, OTHER6, ICMP6, neighbour(SOLICIT, OTHER6), hops=255), PASS, "pending"),
    Case("advertisement", ipv6(POD6, GATEWAY6, ICMP6, neighbour(ADVERT, POD6), hops=255), PASS),
    Case("advertisement of its link address", ipv6(LINK6, ALL_NODES, ICMP6, neighbour(ADVERT, LINK6), hops=255), PASS),
    Case("advertisement of another", ipv6(POD6, GATEWAY6, ICMP6, neighbour(ADVERT, OTHER6), hops=255), "neighbour"),
    Case("advertisement of nothing", ipv6(POD6, GATEWAY6, ICMP6, neighbour(ADVERT, "::"), hops=255), "neighbour"),
    Case("the same behind a hop-by-hop header",
         ipv6(POD6, GATEWAY6, HOP_BY_HOP, hop_by_hop(ICMP6, neighbour(ADVERT, OTHER6)), hops=255), "neighbour"),
    Case("router solicitation", ipv6(LINK6, ALL_ROUTERS, ICMP6, icmp6(ROUTER_SOLICIT), hops=255), PASS),
    Case("router advertisement", ipv6(LINK6, ALL_NODES, ICMP6, icmp6(ROUTER_ADVERT), hops=255), "source"),
    Case("redirect", ipv6(LINK6, ALL_NODES, ICMP6, icmp6(REDIRECT), hops=255), "source"),
    Case("multicast report", ipv6(LINK6, MLD_ROUTERS, HOP_BY_HOP, hop_by_hop(ICMP6, icmp6(MLD2_REPORT)), hops=1), PASS),
    Case("multicast report off the link",
         ipv6(POD6, OTHER6, HOP_BY_HOP, hop_by_hop(ICMP6, icmp6(MLD2_REPORT)), hops=1), PASS, "pending"),
    Case("multicast report behind a long header",
         ipv6(LINK6, MLD_ROUTERS, HOP_BY_HOP, hop_by_hop(ICMP6, icmp6(MLD2_REPORT), units=1), hops=1), "source"),
    Case("vlan tag", ethernet(VLAN, b"\0\1" + ipv4(POD, OTHER, UDP, udp())[12:]), "ethertype"),
    Case("mpls", ethernet(0x8847, bytes(50)), "ethertype"),
    Case("length instead of a type", ethernet(46, bytes(46)), "ethertype"),
]  # fmt: skip


@pytest.mark.parametrize("case", FROM, ids=[case.name for case in FROM])
def test_what_a_pod_may_send(bench: Bench, case: Case) -> None:
    pending = case.when_open if case.when_pending == "same" else case.when_pending
    for state, expected in (("OPEN", case.when_open), ("PENDING", pending), (None, "no-endpoint")):
        bench.have(state)
        reason, _ = bench.judge(FROM_POD, case.frame)
        assert reason == expected, state


def test_every_reason_is_met() -> None:
    met = {reason for case in FROM for reason in (case.when_open, case.when_pending)} - {"same"}
    of_policy = {"policy", "unknown", "no-policy", "table-full", "fragment", "too-long"}  # see test_policy_*
    assert met | {"no-endpoint"} | of_policy == {PASS, *layout.REASONS.values()}


@pytest.mark.parametrize("state", ["OPEN", "PENDING"])
def test_a_pod_without_addresses_of_a_family_sends_none_of_it(bench: Bench, state: State) -> None:
    bench.have(state, ipv4="", ipv6=POD6)
    assert bench.judge(FROM_POD, ipv4(POD, NODE, TCP, tcp(ACK)))[0] == "source"
    assert bench.judge(FROM_POD, ipv4("0.0.0.0", NODE, TCP, tcp(ACK)))[0] == "source"
    assert bench.judge(FROM_POD, arp(1, POD, NODE))[0] == "neighbour"
    bench.have(state, ipv4=POD, ipv6="")
    assert bench.judge(FROM_POD, ipv6(POD6, NODE6, TCP, tcp(ACK)))[0] == "source"
    assert bench.judge(FROM_POD, ipv6("::", NODE6, TCP, tcp(ACK)))[0] == "source"
    assert bench.judge(FROM_POD, ipv6(LINK6, GATEWAY6, ICMP6, neighbour(ADVERT, "::"), hops=255))[0] == "neighbour"


@pytest.mark.parametrize("mark", [0, 0x1234, OWN_HOST, SEEN, JUDGED, MASK | 0x55, 0xFFFFFFFF])
def test_a_mark_that_a_pod_sets_is_not_believed_and_others_bits_stay(bench: Bench, mark: int) -> None:
    bench.have("OPEN")
    _, result = bench.judge(FROM_POD, ipv4(POD, OTHER, UDP, udp()), mark)
    assert result.mark == mark & ~MASK | SEEN


TO = [
    # name, frame, mark, when PENDING, when OPEN if it does not pass then
    ("tcp", ipv4(OTHER, POD, TCP, tcp(SYN)), 0, "pending"),
    ("answer", ipv4(OTHER, POD, TCP, tcp(ACK)), 0, "pending"),
    ("the node's address alone", ipv4(NODE, POD, TCP, tcp(SYN)), 0, "pending"),
    ("another pod's packet", ipv4(OTHER, POD, TCP, tcp(SYN)), SEEN, "pending"),
    ("somebody's mark", ipv4(OTHER, POD, TCP, tcp(SYN)), 0x0000FFFF, "pending"),
    ("own node's probe", ipv4(NODE, POD, TCP, tcp(SYN)), OWN_HOST, PASS),
    ("own node's probe, mark of others", ipv4(NODE, POD, TCP, tcp(SYN)), OWN_HOST | 0x7, PASS),
    ("own node's probe v6", ipv6(NODE6, POD6, TCP, tcp(SYN)), OWN_HOST, PASS),
    ("arp", arp(2, "169.254.1.1", POD), 0, PASS),
    ("solicitation", ipv6(GATEWAY6, POD6, ICMP6, neighbour(SOLICIT, POD6), hops=255), 0, PASS),
    ("advertisement", ipv6(GATEWAY6, POD6, ICMP6, neighbour(ADVERT, GATEWAY6), hops=255), 0, PASS),
    ("solicitation that was routed", ipv6(OTHER6, POD6, ICMP6, neighbour(SOLICIT, POD6), hops=254), 0, "pending"),
    ("ping with hop limit 255", ipv6(OTHER6, POD6, ICMP6, icmp6(128), hops=255), 0, "pending"),
    ("redirect", ipv6(GATEWAY6, POD6, ICMP6, icmp6(REDIRECT), hops=255), 0, "pending"),
    ("v6 tcp", ipv6(OTHER6, POD6, TCP, tcp(SYN)), 0, "pending"),
    ("anything else", ethernet(0x8847, bytes(50)), 0, "pending", "ethertype"),
]  # fmt: skip


@pytest.mark.parametrize("case", TO, ids=[case[0] for case in TO])
def test_what_a_pod_receives(bench: Bench, case: tuple[Any, ...]) -> None:
    _, frame, mark, when_pending, *others = case
    for state, expected in (("OPEN", [*others, PASS][0]), ("PENDING", when_pending), (None, "no-endpoint")):
        bench.have(state)
        reason, result = bench.judge(TO_POD, frame, mark)
        assert reason == expected, state
        assert result.mark == mark


@pytest.mark.parametrize("state", ["OPEN", "PENDING"])
@pytest.mark.parametrize("frame", [case.frame for case in FROM], ids=[case.name for case in FROM])
def test_cut_short_at_every_length_nothing_passes_that_would_not_whole(
    bench: Bench, state: State, frame: bytes
) -> None:
    bench.have(state)
    whole, _ = bench.judge(FROM_POD, frame)
    for length in range(shortest(frame), len(frame)):
        reason, _ = bench.judge(FROM_POD, frame[:length])
        if frame[12:14] == ARP.to_bytes(2, "big") and length < 42:
            assert reason == "malformed", length
        # What is left of an advertisement without its type is no advertisement.
        assert reason != PASS or whole == PASS or speaks_for_itself(frame[:length]), length
        bench.judge(TO_POD, frame[:length])


@settings(max_examples=400, deadline=None)
@given(
    case=st.sampled_from(FROM),
    changes=st.lists(st.tuples(st.integers(12, 120), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.integers(15, 150),
)
def test_no_change_of_bytes_gives_a_pod_anothers_address(
    bench: Bench, case: Case, changes: list[tuple[int, int]], length: int
) -> None:
    bench.have("OPEN")
    changed = bytearray(case.frame)
    for at, value in changes:
        changed[at : at + 1] = bytes([value])
    frame = bytes(changed[: max(length, shortest(changed))])
    assume(len(frame) >= shortest(frame))
    reason, _ = bench.judge(FROM_POD, frame)
    assert reason != PASS or speaks_for_itself(frame), frame.hex()


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from([IPV4, ARP, IPV6]), payload=st.binary(min_size=40, max_size=120))
def test_random_bytes_are_judged_and_counted(bench: Bench, kind: int, payload: bytes) -> None:
    frame = ethernet(kind, payload)
    for state in ("OPEN", "PENDING"):
        bench.have(state)
        reason, _ = bench.judge(FROM_POD, frame)
        assert reason != PASS or speaks_for_itself(frame)
        bench.judge(TO_POD, frame)


def shortest(frame: bytes) -> int:
    """Bytes below which the kernel takes no frame for a test run; test_bpf_packets sends shorter ones."""
    return {IPV4: 34, IPV6: 54}.get(int.from_bytes(frame[12:14], "big"), 15)


def speaks_for_itself(frame: bytes) -> bool:
    """Whether a frame names only the pod's own addresses as its own: an oracle that knows nothing of states."""
    kind, body = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == ARP:
        return body[14:18] == packed(POD) or (body[14:18] == bytes(4) and body[6:8] == b"\0\1")
    if kind == IPV4:
        return body[12:16] == packed(POD)
    source, following, message = body[8:24], body[6], body[40:]
    if following == HOP_BY_HOP and len(message) >= 8:
        following, message = message[0], message[8:]
    kind = message[0] if following == ICMP6 and message else 0
    if kind == ADVERT and not own6(message[8:24]):
        return False
    on_link = own6(source) or source == bytes(16)
    return source == packed(POD6) or (on_link and kind in (131, 132, MLD2_REPORT, ROUTER_SOLICIT, SOLICIT, ADVERT))


def own6(address: bytes) -> bool:
    return address == packed(POD6) or (len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80)
