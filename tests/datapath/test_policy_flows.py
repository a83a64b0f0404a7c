"""Flows at a pod's two hooks: who began them, what follows them, when they are judged anew."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tortie.nodeagent.connections import swept
from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.marks import OWN_HOST, SEEN
from tortie.nodeagent.policy.image import Image, image

from .frames import ACK, FRAGMENT, HOP_BY_HOP, ICMP, ICMP6, RST, SYN, TCP, UDP, ipv4, ipv6, transport
from .judging import Judge, judge
from .policies import cluster

SCTP, FIN = 132, 0x01
POD, PEER, STRANGER, NODE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1"
SIX = {POD: "fd00::1", PEER: "fd00::2", STRANGER: "fd00::3", NODE: "2001:db8::1"}
PASS = ""
PODS = """
{apiVersion: v1, kind: Namespace, metadata: {name: red}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pod, namespace: red, labels: {app: pod}},
 spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: peer, namespace: red, labels: {app: peer}},
 spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger, namespace: red, labels: {app: stranger}},
 spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.0.0.3}, {ip: "fd00::3"}]}}
"""
INGRESS = """
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: allow}, spec: {selector: app == 'pod',
 types: [Ingress, Egress], order: 10, ingress: [{action: Allow, source: {selector: app == 'peer'}}]}}
"""
EGRESS = """
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: allow}, spec: {selector: app == 'pod',
 types: [Ingress, Egress], order: 10, egress: [{action: Allow, destination: {selector: app == 'peer'}}]}}
"""
ELSEWHERE = """
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: other}, spec: {selector: app == 'pod',
 order: 20, ingress: [{action: Allow, protocol: TCP, source: {nets: [203.0.113.0/24]}, destination: {ports: [443]}}]}}
"""
DENY = """
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: deny}, spec: {selector: app == 'pod',
 order: 1, types: [Ingress, Egress], ingress: [{action: Deny, source: {selector: app == 'peer'}}],
 egress: [{action: Deny, destination: {selector: app == 'peer'}}]}}
"""
LATER = """
---
{apiVersion: v1, kind: Pod, metadata: {name: later, namespace: red, labels: {app: peer}},
 spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.0.0.4}]}}
"""


@pytest.fixture(scope="module")
def loaded(bpf_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(bpf_dir, tmp_path_factory.mktemp("bpffs")) as made:
        yield made


@pytest.fixture
def bench(loaded: Judge) -> Judge:
    loaded.endpoint(POD, SIX[POD])
    loaded.forget_flows()
    loaded.fragments.delete_all([key for key, _ in loaded.fragments.items()])
    return loaded


def policy(text: str, blocks: tuple[str, ...] = ()) -> Image:
    made = cluster(PODS + text)
    return image(made, {"lo": made.workloads["red/pod"]}, [ip_address(NODE)], list(map(ip_network, blocks)))


def packet(family: int, source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    if family == 4:
        return ipv4(source, destination, protocol, payload)
    return ipv6(SIX[source], SIX[destination], ICMP6 if protocol == ICMP else protocol, payload)


def asks(family: int, protocol: int, source: str, destination: str, flags: int = SYN) -> bytes:
    kind, code = (8 if family == 4 else 128), 0
    number = ICMP6 if protocol == ICMP and family == 6 else protocol
    return packet(family, source, destination, protocol, transport(number, 40000, 80, kind, code, flags))


def answers(family: int, protocol: int, source: str, destination: str, flags: int = SYN | ACK) -> bytes:
    kind, code = (0 if family == 4 else 129), 0
    number = ICMP6 if protocol == ICMP and family == 6 else protocol
    return packet(family, source, destination, protocol, transport(number, 80, 40000, kind, code, flags))


FAMILIES = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", [TCP, UDP, SCTP, ICMP, 47])


@FAMILIES
@PROTOCOLS
def test_answers_follow_and_a_new_deny_cuts_both_ways(bench: Judge, family: int, protocol: int) -> None:
    bench.enforce(policy(INGRESS), "lo")
    came, went = asks(family, protocol, PEER, POD), answers(family, protocol, POD, PEER)
    assert bench.reason(FROM_POD, asks(family, protocol, POD, PEER)) == "policy"
    if protocol != 47:  # of which answers cannot be told from questions
        assert bench.reason(FROM_POD, went) == "policy"
    assert bench.reason(TO_POD, asks(family, protocol, STRANGER, POD)) == "policy"
    assert bench.reason(TO_POD, came) == PASS
    assert bench.reason(FROM_POD, went) == PASS
    bench.enforce(policy(INGRESS + ELSEWHERE), "lo")
    assert bench.reason(FROM_POD, went) == PASS
    assert bench.reason(TO_POD, came) == PASS
    bench.enforce(policy(INGRESS + ELSEWHERE + DENY), "lo")
    assert bench.reason(FROM_POD, went) == "policy"
    assert bench.reason(TO_POD, came) == "policy"
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(FROM_POD, went) == PASS


@FAMILIES
@PROTOCOLS
def test_the_same_for_flows_that_the_pod_begins(bench: Judge, family: int, protocol: int) -> None:
    bench.enforce(policy(EGRESS), "lo")
    went, came = asks(family, protocol, POD, PEER), answers(family, protocol, PEER, POD)
    assert bench.reason(TO_POD, came) == "policy"
    assert bench.reason(FROM_POD, went) == PASS
    assert bench.reason(TO_POD, came) == PASS
    bench.adopt()
    bench.enforce(policy(EGRESS), "lo")  # a restarted agent
    assert bench.reason(TO_POD, came) == PASS
    bench.enforce(policy(EGRESS + DENY), "lo")
    assert bench.reason(TO_POD, came) == "policy"
    assert bench.reason(FROM_POD, went) == "policy"


def test_a_question_of_the_other_side_is_no_answer(bench: Judge) -> None:
    bench.enforce(policy(EGRESS), "lo")
    assert bench.reason(FROM_POD, asks(4, ICMP, POD, PEER)) == PASS
    assert bench.reason(TO_POD, asks(4, ICMP, PEER, POD)) == "policy"
    assert bench.reason(FROM_POD, asks(4, TCP, POD, PEER)) == PASS
    assert bench.reason(TO_POD, answers(4, TCP, PEER, POD, SYN)) == "policy"
    assert bench.reason(TO_POD, answers(4, TCP, PEER, POD)) == PASS


def test_a_closed_connections_ports_may_be_used_the_other_way(bench: Judge) -> None:
    bench.enforce(policy(EGRESS), "lo")
    assert bench.reason(FROM_POD, asks(4, TCP, POD, PEER)) == PASS
    assert bench.reason(TO_POD, answers(4, TCP, PEER, POD, RST | ACK)) == PASS
    assert bench.reason(TO_POD, answers(4, TCP, PEER, POD, SYN)) == "policy"
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(TO_POD, answers(4, TCP, PEER, POD, SYN)) == PASS
    assert bench.reason(FROM_POD, asks(4, TCP, POD, PEER, SYN | ACK)) == PASS


def test_another_pod_judges_no_flow_anew(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS
    before = bench.columns.epoch
    bench.enforce(policy(INGRESS + LATER), "lo")
    assert bench.columns.epoch == before
    bench.enforce(policy(INGRESS.replace("peer", "stranger") + LATER), "lo")
    assert bench.columns.epoch > before


def test_a_peer_that_is_no_longer_selected_is_cut(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS
    made = cluster((PODS + INGRESS).replace("labels: {app: peer}", "labels: {app: former}"))
    bench.enforce(image(made, {"lo": made.workloads["red/pod"]}), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD, ACK)) == "policy"
    assert bench.reason(FROM_POD, answers(4, TCP, POD, PEER, ACK)) == "policy"


def quoted(family: int, inner: bytes) -> bytes:
    """An ICMP error about a frame: destination unreachable."""
    head = struct.pack("!BBHI", 3 if family == 4 else 1, 1, 0, 0)
    return head + inner[14 : 14 + (28 if family == 4 else 48)]


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_icmp_errors_follow_their_flow(bench: Judge, family: int, protocol: int) -> None:
    bench.enforce(policy(EGRESS), "lo")
    went = asks(family, protocol, POD, PEER)
    error = packet(family, STRANGER, POD, ICMP, quoted(family, went))
    assert bench.reason(TO_POD, error) == "policy"
    assert bench.reason(FROM_POD, went) == PASS
    assert bench.reason(TO_POD, error) == PASS
    others = packet(family, STRANGER, POD, ICMP, quoted(family, asks(family, protocol, STRANGER, PEER)))
    assert bench.reason(TO_POD, others) == "policy"
    short = error[: len(error) - 6]
    assert bench.reason(TO_POD, short) == "policy"
    bench.enforce(policy(EGRESS + DENY), "lo")
    assert bench.reason(TO_POD, error) == "policy"


@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_fragments_follow_their_first(bench: Judge, protocol: int) -> None:
    bench.enforce(policy(INGRESS), "lo")
    body = transport(protocol, 40000, 80, 8)
    first, last = ipv4(PEER, POD, protocol, body, fragment=0x2000), ipv4(PEER, POD, protocol, body, fragment=0x0003)
    assert bench.reason(TO_POD, last) == "fragment"
    assert bench.reason(TO_POD, first) == PASS
    assert bench.reason(TO_POD, last) == PASS
    assert bench.reason(TO_POD, ipv4(PEER, POD, protocol, body[:6], fragment=0x2000)) == "malformed"
    for offset in (0x2000, 0x2003, 0x0003):
        assert bench.reason(TO_POD, ipv4(STRANGER, POD, protocol, body, fragment=offset)) == "policy"


def fragment6(following: int, offset: int, more: bool, payload: bytes) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 7) + payload


def test_fragments_of_ipv6_follow_their_first_also_behind_other_headers(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    body = transport(UDP, 40000, 80)

    def frame(source: str, offset: int, more: bool, following: int = UDP) -> bytes:
        inside = fragment6(following, offset, more, body)
        return ipv6(SIX[source], SIX[POD], HOP_BY_HOP, bytes([FRAGMENT, 0]) + bytes(6) + inside)

    assert bench.reason(TO_POD, frame(PEER, 5, False)) == "fragment"
    assert bench.reason(TO_POD, frame(PEER, 0, True)) == PASS
    assert bench.reason(TO_POD, frame(PEER, 5, False)) == PASS
    assert bench.reason(TO_POD, frame(PEER, 0, False)) == PASS
    assert bench.reason(TO_POD, frame(STRANGER, 0, True)) == "policy"
    assert bench.reason(TO_POD, frame(STRANGER, 5, False)) == "policy"


def test_extension_headers_end_somewhere(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    options, header = transport(UDP, 40000, 80), bytes([60, 0]) + bytes(6)
    few = ipv6(SIX[PEER], SIX[POD], 60, header * 3 + bytes([UDP, 0]) + bytes(6) + options)
    many = ipv6(SIX[PEER], SIX[POD], 60, header * 8 + bytes([UDP, 0]) + bytes(6) + options)
    assert bench.reason(TO_POD, few) == PASS
    assert bench.reason(TO_POD, many) == "too-long"


@FAMILIES
def test_the_nodes_own_traffic_passes_and_is_answered(bench: Judge, family: int) -> None:
    bench.enforce(policy(DENY), "lo")
    came, went = asks(family, TCP, NODE, POD), answers(family, TCP, POD, NODE)
    assert bench.reason(TO_POD, came, SEEN) == "policy"
    assert bench.reason(FROM_POD, went) == "policy"
    assert bench.reason(TO_POD, came, OWN_HOST) == PASS
    assert bench.reason(FROM_POD, went) == PASS
    assert bench.reason(TO_POD, came) == "policy"  # a masqueraded client with the node's address and the same port
    bench.enforce(policy(INGRESS + DENY), "lo")
    assert bench.reason(FROM_POD, went) == PASS


@FAMILIES
def test_a_pod_reaches_itself_and_nobody_else_with_its_address(bench: Judge, family: int) -> None:
    bench.enforce(policy(DENY), "lo")
    frame = asks(family, TCP, POD, POD)
    assert bench.reason(FROM_POD, frame) == PASS
    assert bench.reason(TO_POD, frame, SEEN) == PASS
    assert bench.reason(TO_POD, frame) == "policy"


def test_an_address_that_no_node_has_told_of_is_nobodys(bench: Judge) -> None:
    bench.enforce(policy(INGRESS, ("10.0.0.0/26",)), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS
    assert bench.reason(TO_POD, ipv4("10.0.0.9", POD, TCP, transport(TCP, 1, 80))) == "unknown"
    assert bench.reason(TO_POD, ipv4("10.0.1.9", POD, TCP, transport(TCP, 1, 80))) == "policy"
    assert bench.reason(TO_POD, ipv4(NODE, POD, TCP, transport(TCP, 1, 80))) == "policy"


def test_without_policy_nothing_passes(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    key = layout.endpoint_key(1)
    words = bench.maps.tables[layout.POLICIES].get(key)
    assert words is not None
    bench.maps.tables[layout.POLICIES].delete(key)
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == "no-policy"
    foreign = struct.pack("=4Q", *(word ^ 0x8000 for word in layout.WORDS.unpack(words)))
    bench.maps.tables[layout.POLICIES].put(key, foreign)
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == "no-policy"
    bench.maps.tables[layout.POLICIES].put(key, words)
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS


def test_what_is_missing_in_any_map_drops(bench: Judge) -> None:
    bench.enforce(policy(INGRESS + ELSEWHERE), "lo")
    frame = asks(4, TCP, PEER, POD)
    address = layout.ADDRESSES[4]
    key = bytes([10, 0, 0, 2])
    value = bench.maps.tables[address].get(key)
    assert value is not None
    bench.maps.tables[address].put(key, bytes(6) + value[6:])
    assert bench.reason(TO_POD, frame) == "no-policy"
    bench.maps.tables[address].put(key, value[:6] + bytes([value[6] ^ 1, value[7]]))  # another address's element
    assert bench.reason(TO_POD, frame) == "no-policy"
    bench.maps.tables[address].put(key, value)
    with bench.maps.arrays() as arrays:
        for name in (layout.KINDS, layout.ROWS, layout.ATOMS, layout.STACKS):
            memory = arrays[name]
            before = memory[:]
            memory[:] = bytes(len(before))
            assert bench.reason(TO_POD, frame) == "no-policy", name
            memory[:] = before
    assert bench.reason(TO_POD, frame) == PASS


def test_a_dead_entry_lets_nothing_pass_and_is_swept(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS
    ((key, value),) = bench.conns.items()
    bench.conns.put(key, struct.pack("=Q", 1) + value[8:])
    assert bench.reason(FROM_POD, answers(4, TCP, POD, PEER)) == "policy"
    assert bench.reason(TO_POD, asks(4, UDP, PEER, POD)) == PASS


async def test_only_dead_entries_are_swept(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    for protocol in (TCP, UDP, SCTP, ICMP):
        assert bench.reason(TO_POD, asks(4, protocol, PEER, POD)) == PASS
    found = dict(bench.conns.items())
    for key in list(found)[:2]:
        bench.conns.put(key, struct.pack("=Q", 1) + found[key][8:])
    assert await swept(bench.conns) == 2
    assert set(dict(bench.conns.items())) == set(list(found)[2:])


def test_a_full_table_drops_the_newcomer_and_nobody_else(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    assert bench.reason(TO_POD, asks(4, TCP, PEER, POD)) == PASS
    room = bench.conns.max_entries - 1
    value, some = bytes(bench.conns.value_size), 1 << 16
    for start in range(0, room, some):
        numbers = range(start, min(start + some, room))
        bench.conns.put_all({struct.pack("=I36x", number): value for number in numbers})
    try:
        assert bench.reason(TO_POD, asks(4, UDP, PEER, POD)) == "table-full"
        assert bench.reason(FROM_POD, answers(4, TCP, POD, PEER)) == PASS
        assert bench.reason(TO_POD, asks(4, TCP, NODE, POD), OWN_HOST) == PASS
    finally:
        bench.forget_flows()


def test_an_entry_says_what_is_needed_later(bench: Judge) -> None:
    bench.enforce(policy(INGRESS), "lo")
    frame = asks(4, TCP, PEER, POD)
    assert bench.reason(TO_POD, frame) == PASS
    assert bench.reason(FROM_POD, answers(4, TCP, POD, PEER)) == PASS
    ((key, value),) = bench.conns.items()
    a, b, port_a, port_b, protocol = layout.CONN_KEY.unpack(key)
    assert (a[-4:], b[-4:], port_a, port_b, protocol) == (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 80, 40000, TCP)
    _, _, ingress, egress, rule, _, form, flags, tcp, service, _, _, *counted = layout.CONN.unpack(value)
    assert (form, flags, service) == (1, 1 | 2, 0)  # from `b`, by way of the stack
    assert (ingress, egress) == (bench.columns.epoch, 0) or (ingress and not egress)
    assert bench.rule(rule)
    assert tcp == 1
    assert counted == [1, len(frame), 1, len(frame)]
