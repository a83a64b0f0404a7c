"""What must be true once everything is quiet, read from the API server alone."""

from __future__ import annotations

from collections import Counter

from tortie.api.calico import BlockAffinity, IPAMBlock
from tortie.api.internal import CompiledPolicy, CompiledPolicySpec, NodePeer, compiled_name
from tortie.api.kubernetes import Namespace, Pod, ServiceAccount
from tortie.operator.compile.peers import NOISE, networked
from tortie.operator.ipam.mirror import holders
from tortie.operator.ipam.names import object_name
from tortie.operator.ipam.reuse import Reuse
from tortie.operator.keys import source_key
from tortie.operator.orders import addresses
from tortie.operator.world import block_owner, profiles
from tortie.operator.writer import unstamped
from tortie.policy.convert import profile_of_namespace, profile_of_service_account

from .apiserver import ApiServer
from .invariants import Broken


def check(server: ApiServer) -> None:
    """Raises Broken."""
    for each in (_nodes, _pods, _blocks, _mirror, _profiles):
        each(server)


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise Broken(f"when all is quiet: {message}")


def _nodes(server: ApiServer) -> None:
    nodes = server.kind("nodes").keys()
    for plural in ("nodepeers", "nodestates"):
        found = server.kind(plural).keys()
        expect(found == nodes, f"{plural} {sorted(found)} are there for nodes {sorted(nodes)}")
    for name, peer in server.kind("nodepeers").items():
        expect(peer.spec.uid == server.kind("nodes")[name].metadata.uid, f"NodePeer {name} is of a Node before")
    for name, state in server.kind("nodestates").items():
        expect(not state.spec.releasing, f"{name} still releases {state.spec.releasing}")


def _pods(server: ApiServer) -> None:
    """Each that may have an entry has one that says the truth, and nothing else has one."""
    expected: dict[str, list[Pod]] = {name: [] for name in server.kind("nodes")}
    for pod in server.kind("pods").values():
        if networked(pod) and pod.metadata.namespace in server.kind("namespaces"):
            expected.setdefault(pod.spec.node_name, []).append(pod)
    for name, peer in server.kind("nodepeers").items():
        entries = {endpoint.uid: endpoint for endpoint in peer.spec.endpoints}
        pods = {pod.metadata.uid: pod for pod in expected.pop(name)}
        expect(entries.keys() == pods.keys(), f"{name} has entries {entries.keys()} for pods {pods.keys()}")
        for uid, endpoint in entries.items():
            pod, labels = pods[uid], peer.spec.label_sets[endpoint.labels]
            expect(bool(endpoint.addresses) != bool(endpoint.error), f"{endpoint} has addresses or an error")
            own = {key: value for key, value in pod.metadata.labels.items() if key not in NOISE}
            account = pod.spec.service_account_name or "default"
            told = (labels.labels, labels.namespace, labels.service_account)
            expect(endpoint.name == pod.metadata.key, f"{endpoint} is named as its pod")
            expect(told == (own, pod.metadata.namespace, account), f"{endpoint} has the labels of {pod}")
    expect(not expected, f"pods of {sorted(expected)} have no NodePeer")


def _blocks(server: ApiServer) -> None:
    """Object, affinity and NodePeer agree, one to one to one; none is on its way."""
    blocks: dict[str, IPAMBlock] = server.kind("ipamblocks")
    affinities: dict[str, BlockAffinity] = server.kind("blockaffinities")
    peers: dict[str, NodePeer] = server.kind("nodepeers")
    owned = {(block_owner(block), block.spec.cidr) for block in blocks.values()}
    confirmed = {(a.spec.node, a.spec.cidr) for a in affinities.values() if a.spec.state == "confirmed"}
    named = {(name, cidr) for name, peer in peers.items() for cidr in peer.spec.blocks}
    underway = [(a.metadata.name, a.spec.state) for a in affinities.values() if a.spec.state != "confirmed"]
    expect(not underway, f"affinities are on their way: {underway}")
    odd = (owned | confirmed | named) - (owned & confirmed & named)
    expect(not odd, f"{sorted(odd)}: of blocks, affinities and NodePeers not all say so")


def _mirror(server: ApiServer) -> None:
    for name, peer in server.kind("nodepeers").items():
        held = holders(name, peer.spec)
        expect(held.keys() == addresses(peer), f"{name}: holders {held.keys()} are not those of {peer}")
        for cidr in peer.spec.blocks:
            block: IPAMBlock = server.kind("ipamblocks")[object_name(cidr)]
            spec, order = block.spec, Reuse(cidr)
            for ordinal, index in enumerate(spec.allocations):
                holder = held.get(order.address(ordinal))
                told = None if index is None else spec.attributes[index]
                expect((told is None) == (holder is None), f"{cidr} says {told} of {order.address(ordinal)}: {holder}")
                if told is not None and holder is not None:
                    expect(told.handle_id == holder.handle, f"{cidr} says {told}, it is {holder}")
                    expect(told.secondary == dict(holder.attributes), f"{cidr} says {told}, it is {holder}")
                    expect(
                        str(ordinal) in spec.sequence_number_for_allocation, f"{cidr} lacks the sequence of {ordinal}"
                    )
            free = Counter(ordinal for ordinal, index in enumerate(spec.allocations) if index is None)
            expect(Counter(spec.unallocated) == free, f"{cidr}: unallocated {spec.unallocated}, free {free}")


def _profiles(server: ApiServer) -> None:
    """One for each namespace and account, and of the others those that a NodePeer still speaks of."""
    wanted: dict[str, CompiledPolicySpec] = {}
    for namespace in server.kind("namespaces").values():
        assert isinstance(namespace, Namespace)
        wanted[compiled_name("kns", namespace.metadata.name)] = profile_of_namespace(namespace)
    for account in server.kind("serviceaccounts").values():
        assert isinstance(account, ServiceAccount)
        name = compiled_name("ksa", account.metadata.name, account.metadata.namespace)
        wanted[name] = profile_of_service_account(account)
    spoken = {key for peer in server.kind("nodepeers").values() for key in profiles(peer)}
    for name, policy in server.kind("compiledpolicies").items():
        assert isinstance(policy, CompiledPolicy)
        source = policy.spec.source
        if name not in wanted:
            key = source_key(source.kind, source.name, source.namespace)
            expect(key in spoken, f"{name} is of nothing, and nobody speaks of it")
        else:
            expect(unstamped(policy.spec) == wanted[name], f"{name} is not up to date: {policy.spec}")
    expect(wanted.keys() <= server.kind("compiledpolicies").keys(), f"profiles are missing: {wanted.keys()}")
