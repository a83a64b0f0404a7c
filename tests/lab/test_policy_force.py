"""What policies of each kind allow and deny, with real sockets: both families, on web's node and across nodes."""

from __future__ import annotations

import asyncio

from .cluster import addresses, condition, eventually, service, target
from .stage import CALICO, EVERYBODY, Stage, furnished, stage

__all__ = ["furnished", "stage"]

CLIENTS = {"near", "far"}
"""Those with `role: client` in web's own namespace."""
BY_LABEL = {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}


async def test_without_a_policy_everybody_is_answered(stage: Stage) -> None:
    assert await stage.who(80) == await stage.who(81) == await stage.who(53, "udp") == EVERYBODY


async def test_default_deny_denies_everybody_but_the_probes_of_the_node(stage: Stage) -> None:
    ready_since, unhealthy = readiness(await stage.home.get("pod/web")), await failed_probes(stage)
    await stage.enforce(stage.ingress())
    tcp, udp = await asyncio.gather(stage.who(80), stage.who(53, "udp"))
    assert tcp == udp == set()
    await asyncio.sleep(2.5)  # with the above more than both failures that its readiness probe takes
    assert readiness(await stage.home.get("pod/web")) == ready_since
    assert await failed_probes(stage) == unhealthy


async def test_a_deleted_policy_is_gone_once_its_status_is(stage: Stage) -> None:
    policy = stage.ingress()
    await stage.enforce(policy)
    assert await stage.who() == set()
    await stage.withdraw()
    assert await stage.who() == EVERYBODY


async def test_peers_are_chosen_by_label_in_the_policys_own_namespace(stage: Stage) -> None:
    await stage.enforce(stage.ingress(BY_LABEL))
    assert await stage.who(80) == CLIENTS


async def test_a_named_port_is_open_and_no_other(stage: Stage) -> None:
    await stage.enforce(stage.ingress({"ports": [{"port": "http"}, {"port": "dns", "protocol": "UDP"}]}))
    http, admin, dns = await asyncio.gather(stage.who(80), stage.who(81), stage.who(53, "udp"))
    assert (http, admin, dns) == (EVERYBODY, set(), EVERYBODY)


async def test_peers_are_chosen_by_the_labels_of_their_namespace(stage: Stage) -> None:
    here = {"kubernetes.io/metadata.name": stage.other.namespace}
    await stage.enforce(stage.ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "office", **here}}}]}))
    assert await stage.who() == {"neighbour", "visitor"}


async def test_a_tier_passes_to_the_next_or_denies_for_good(stage: Stage) -> None:
    name = f"guard-{stage.home.namespace}"
    tier = {"apiVersion": CALICO, "kind": "Tier", "metadata": {"name": name}, "spec": {"order": 100}}
    rules = [{"action": "Pass", "source": {"selector": "role == 'client'"}}]
    spec = {"tier": name, "selector": "app == 'web'", "types": ["Ingress"], "ingress": rules}
    spec["namespaceSelector"] = f"kubernetes.io/metadata.name == '{stage.home.namespace}'"
    policy = {"apiVersion": CALICO, "kind": "GlobalNetworkPolicy", "metadata": {"name": f"{name}.web"}, "spec": spec}
    await stage.enforce(tier, policy)
    assert await stage.who() == EVERYBODY - {"stranger"}
    await stage.enforce(stage.ingress({"from": [{"podSelector": {}}]}))
    assert await stage.who() == CLIENTS


async def test_nets_are_allowed_except_those_inside_that_are_not(stage: Stage) -> None:
    far = {("::/0" if ":" in each else "0.0.0.0/0"): each for each in addresses(stage.pods["far"])}
    blocks = [{"ipBlock": {"cidr": net, "except": [alone(each)]}} for net, each in far.items()]
    await stage.enforce(stage.ingress({"from": blocks}))
    assert await stage.who() == EVERYBODY - {"far"}


async def test_a_denied_net_comes_before_what_allows_all(stage: Stage) -> None:
    nets = [[alone(each)] for name in ("near", "visitor") for each in addresses(stage.pods[name])]
    denials = [{"action": "Deny", "source": {"nets": net}} for net in nets]
    await stage.enforce(stage.calico(*denials, {"action": "Allow"}))
    assert await stage.who() == EVERYBODY - {"near", "visitor"}


async def test_icmp_is_allowed_by_type_and_tcp_is_not_by_that(stage: Stage) -> None:
    rules = [
        {"action": "Allow", "protocol": protocol, "icmp": {"type": kind}, "source": {"selector": "role == 'client'"}}
        for protocol, kind in (("ICMP", 8), ("ICMPv6", 128))
    ]
    await stage.enforce(stage.calico(*rules))
    web = addresses(stage.web)
    async with (
        stage.client("near", "ping", *web) as near,
        stage.client("far", "ping", *web) as far,
        stage.client("stranger", "ping", *web) as stranger,
    ):
        assert await stage.who() == set()
    assert set(near) == set(far) == set(web)
    assert not stranger


async def test_egress_is_judged_where_it_starts(stage: Stage) -> None:
    spec = {
        "podSelector": {"matchLabels": {"role": "client"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "http"}]}],
    }
    metadata = {"name": "clients", "namespace": stage.home.namespace}
    await stage.enforce(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    )
    elsewhere = [target(each) for each in addresses(stage.pods["stranger"])]
    http, admin, stranger = await asyncio.gather(stage.who(80), stage.who(81), stage.reach("near", elsewhere))
    assert (http, admin) == (EVERYBODY, EVERYBODY - CLIENTS)
    assert set(stranger.values()) == {None}


async def test_a_masqueraded_client_does_not_count_as_the_host(stage: Stage) -> None:
    """What comes in by a NodePort has an address of web's node when it arrives, as the node's own probes have."""
    first, second, *_ = stage.lab.plan.node_names
    await stage.home.apply(service("web", {"port": 80}, type="NodePort"))
    port = (await stage.home.get("service/web"))["spec"]["ports"][0]["nodePort"]
    node = stage.lab.plan.node(first)
    through = [target(str(each.ip), port) for each in (node.v4, node.v6)]
    web = [target(each) for each in addresses(stage.web)]
    answered, refused = dict.fromkeys([*through, *web], "web"), dict.fromkeys([*through, *web])

    async def programmed() -> bool:
        return await stage.reach_from_node(second, *through, *web) == answered

    await eventually(programmed)
    await stage.enforce(stage.ingress())
    assert await stage.reach_from_node(second, *through, *web) == refused
    assert await stage.reach_from_node(first, *web) == dict.fromkeys(web, "web")
    await stage.home.kubectl("delete", "service/web")


async def test_an_allow_that_is_not_understood_allows_nothing_and_says_which_field(stage: Stage) -> None:
    policy = stage.calico({"action": "Allow", "source": {"selector": "role =="}})
    await stage.enforce(policy)
    await not_accepted(stage, "spec.ingress[0].source.selector")
    assert await stage.who() == set()


async def test_a_deny_that_is_not_understood_denies_everything(stage: Stage) -> None:
    await stage.enforce(stage.calico({"action": "Deny", "source": {"selector": "role =="}}, {"action": "Allow"}))
    await not_accepted(stage, "spec.ingress[0].source.selector")
    assert await stage.who() == set()


async def failed_probes(stage: Stage) -> str:
    """Before web listened there may have been one."""
    return (await stage.home.reasons("web")).get("Unhealthy", "")


async def not_accepted(stage: Stage, field: str) -> None:
    """Said in the PolicyStatus, and in the status of the policy itself."""
    for what in (f"policystatus/np.{stage.home.namespace}.web", "networkpolicy.projectcalico.org/web"):
        await stage.home.wait("condition=Accepted=False", what, seconds=10)
        obj = await stage.home.get(what)
        (said,) = (each for each in obj["status"]["conditions"] if each["type"] == "Accepted")
        assert field in said["message"]
        assert "role ==" in said["message"]


def alone(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def readiness(obj: dict[str, object]) -> str:
    """Since when the pod is ready without a break."""
    assert condition(obj, "Ready") == "True"
    conditions: list[dict[str, str]] = obj["status"]["conditions"]  # type: ignore[index]
    return next(each["lastTransitionTime"] for each in conditions if each["type"] == "Ready")
