"""From adopted objects to an image: whose policy a device gets, and what an address is."""

from __future__ import annotations

from ipaddress import ip_network

from tortie.api.compiled import CompiledRule, Peer, Source
from tortie.api.internal import CompiledPolicy, CompiledPolicySpec, Endpoint, LabelSet, NodePeer, NodePeerSpec, Tunnels
from tortie.api.kubernetes import Namespace, ServiceAccount
from tortie.api.meta import Metadata
from tortie.nodeagent.endpoints import EndpointRecord
from tortie.nodeagent.policy.image import Image
from tortie.nodeagent.policy.local import wanted
from tortie.policy.convert import profile_of_namespace, profile_of_service_account

NS = Namespace(metadata=Metadata(name="red", labels={"env": "x"}))
ACCOUNT = ServiceAccount(metadata=Metadata(namespace="red", name="default"))
PROFILES = [
    CompiledPolicy(metadata=Metadata(name="kns.red"), spec=profile_of_namespace(NS)),
    CompiledPolicy(metadata=Metadata(name="ksa.red.default"), spec=profile_of_service_account(ACCOUNT)),
]
POLICY = CompiledPolicy(
    metadata=Metadata(name="gnp.p"),
    spec=CompiledPolicySpec(
        source=Source(kind="gnp", name="p"),
        tier="default",
        selector='pcns.env == "x"',
        types=("Ingress",),
        ingress=(CompiledRule(action="Allow", id="0" * 16, sources=(Peer(selector='app == "web"'),)),),
    ),
)
LABELS = (LabelSet(labels={"app": "web"}, namespace="red", service_account="default"),)
OWN = NodePeer(
    metadata=Metadata(name="n1"),
    spec=NodePeerSpec(
        addresses=("192.0.2.1",),
        blocks=("10.0.0.0/26",),
        tunnels=Tunnels(vxlan4="10.0.0.1"),
        label_sets=LABELS,
        endpoints=(
            Endpoint(name="red/web", uid="u1", addresses=("10.0.0.2",)),
            Endpoint(name="red/failed", uid="u3", error="no room"),
        ),
    ),
)
OTHER = NodePeer(
    metadata=Metadata(name="n2"),
    spec=NodePeerSpec(
        blocks=("10.0.1.0/26",),
        label_sets=LABELS,
        endpoints=(Endpoint(name="red/there", uid="u2", addresses=("10.0.1.2",)),),
    ),
)


def record(name: str, uid: str) -> EndpointRecord:
    return EndpointRecord(
        container_id=name,
        ifname="eth0",
        namespace="red",
        name=name,
        uid=uid,
        host_ifname=f"cali-{name}",
        host_ifindex=7,
        pod_mac="02:00:00:00:00:01",
        addresses=("10.0.0.2",),
        netns="/netns",
        mtu=1450,
        created=1.0,
    )


def made(*records: EndpointRecord) -> Image:
    return wanted("n1", {"n1": OWN, "n2": OTHER}, [*PROFILES, POLICY], [], [], records)


def test_a_device_has_the_policies_of_the_endpoint_with_its_uid() -> None:
    image = made(record("web", "u1"), record("web-2", "u9"), record("failed", "u3"), record("there", "u2"))
    assert set(image.stacks) == {"cali-web"}
    ingress, egress = image.stacks["cali-web"]
    assert [(e.step.name, e.step.rule) for e in ingress.entries] == [
        ("p", 0),
        ("p", "end-of-tier"),
        ("kns.red", 0),
        ("", "no-profile-match"),
    ]
    assert [e.step.rule for e in egress.entries] == [0, "no-profile-match"]
    assert made(record("web", "gone")).stacks == {}


def test_addresses_are_known_unknown_or_the_worlds() -> None:
    known = made(record("web", "u1")).addresses
    selectors = {str(address): sorted(signature.selectors) for address, signature in known.hosts.items()}
    assert selectors == {
        "10.0.0.2": ['app == "web"'],
        "10.0.1.2": ['app == "web"'],
        "192.0.2.1": [],
        "10.0.0.1": [],
    }
    assert known.nets[ip_network("10.0.1.0/26")] is None
    assert known.nets[ip_network("10.0.0.0/26")] is None
    world = known.nets[ip_network("0.0.0.0/0")]
    assert world is not None
    assert not world.selectors
    assert set(known.nets) == {ip_network(n) for n in ("0.0.0.0/0", "::/0", "10.0.0.0/26", "10.0.1.0/26")}


def test_endpoints_with_the_same_policies_share_their_stacks() -> None:
    spec = OWN.spec
    both = NodePeer(
        metadata=OWN.metadata,
        spec=NodePeerSpec(
            label_sets=spec.label_sets,
            endpoints=(*spec.endpoints[:1], Endpoint(name="red/web-2", uid="u5", addresses=("10.0.0.3",))),
        ),
    )
    image = wanted("n1", {"n1": both}, [*PROFILES, POLICY], [], [], [record("web", "u1"), record("web-2", "u5")])
    assert image.stacks["cali-web"] == image.stacks["cali-web-2"]
    assert image.stacks["cali-web"][0] is image.stacks["cali-web-2"][0]
