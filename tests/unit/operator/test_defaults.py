"""What a cluster begins with: pools and tiers, made once, by what the installer or kubeadm says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tortie.api.calico import ClusterInformation, IPPool
from tortie.api.kubernetes import ConfigMap
from tortie.api.meta import Metadata
from tortie.api.policies import BUILT_IN_TIERS, Tier, TierSpec
from tortie.kube.client import ApiError
from tortie.kube.resources import CLUSTER_INFORMATION, CONFIG_MAP, IP_POOL, TIER
from tortie.operator import defaults
from tortie.operator.defaults import MADE, PoolValueError, establish, establish_tiers, given

from ...property.operator.apiserver import ApiServer

FOUR: dict[str, Any] = {"cidr": "10.65.0.0/16", "natOutgoing": True}
SIX: dict[str, Any] = {"cidr": "fd65::/48", "name": "mine"}


class Client:
    """Straight at the server in memory; `refuses` is the name of a pool that the API server finds fault with."""

    def __init__(self, refuses: str = "") -> None:
        self.server = ApiServer()
        self.refuses = refuses
        self.writes = 0

    async def get(self, resource: Any, name: str, *, namespace: str = "", type: Any) -> Any:
        return self.server.get(resource, name, namespace)

    async def create(self, resource: Any, obj: Any, *, type: Any) -> Any:
        record = obj if not isinstance(obj, dict) else msgspec.convert(obj, type)
        if record.metadata.name == self.refuses:
            raise ApiError(422, "Invalid", "spec.blockSize: 10 is not between 20 and 32")
        self.writes += 1
        return self.server.create(resource, record)

    async def patch(self, resource: Any, name: str, body: Any, *, type: Any) -> Any:
        before = self.server.get(resource, name)
        annotations = {**before.metadata.annotations, **body["metadata"]["annotations"]}
        self.writes += 1
        return self.server.edit(
            resource, name, metadata=msgspec.structs.replace(before.metadata, annotations=annotations)
        )

    def pools(self) -> dict[str, IPPool]:
        return dict(self.server.kind("ippools"))

    def information(self) -> ClusterInformation:
        found: ClusterInformation = self.server.get(CLUSTER_INFORMATION, "default")
        return found

    def kubeadm(self, configuration: str) -> None:
        metadata = Metadata(name="kubeadm-config", namespace="kube-system")
        self.server.create(CONFIG_MAP, ConfigMap(metadata=metadata, data={"ClusterConfiguration": configuration}))


async def made(client: Client, values: list[dict[str, Any]] | None) -> bool:
    return await establish(client, values)  # type: ignore[arg-type]


async def test_pools_are_made_as_the_installer_says() -> None:
    client = Client()
    assert await made(client, [FOUR, SIX])
    pools = client.pools()
    assert pools.keys() == {"default-ipv4-ippool", "mine"}
    assert (pools["default-ipv4-ippool"].spec.cidr, pools["default-ipv4-ippool"].spec.nat_outgoing) == (
        FOUR["cidr"],
        True,
    )
    assert pools["mine"].spec.cidr == SIX["cidr"]
    assert client.information().metadata.annotations[MADE] == "default-ipv4-ippool,mine"
    assert client.information().spec.cluster_guid


async def test_pools_are_made_once_whatever_became_of_them() -> None:
    client = Client()
    await made(client, [FOUR])
    client.server.delete(IP_POOL, "default-ipv4-ippool")
    writes = client.writes
    assert await made(client, [FOUR, SIX])
    assert client.pools() == {}
    assert client.writes == writes


async def test_a_pool_that_is_there_is_left_as_it_is() -> None:
    client = Client()
    client.server.create(
        IP_POOL, msgspec.convert({"metadata": {"name": "mine"}, "spec": {"cidr": "fd99::/48"}}, IPPool)
    )
    await made(client, [SIX, FOUR])
    assert client.pools()["mine"].spec.cidr == "fd99::/48"
    assert "default-ipv4-ippool" in client.pools()


async def test_what_the_api_server_refuses_is_not_recorded_as_made() -> None:
    client = Client(refuses="mine")
    with pytest.raises(ApiError, match="blockSize"):
        await made(client, [FOUR, SIX])
    client.refuses = ""
    assert await made(client, [FOUR, SIX])
    assert client.pools().keys() == {"default-ipv4-ippool", "mine"}


async def test_an_empty_list_makes_none_and_settles_it() -> None:
    """GitOps: the pools come from elsewhere."""
    client = Client()
    client.kubeadm("networking: {podSubnet: 10.244.0.0/16}")
    assert await made(client, [])
    assert client.pools() == {}


async def test_an_existing_cluster_information_is_kept() -> None:
    client = Client()
    spec = {"clusterGUID": "calicos-own", "calicoVersion": "v3.30"}
    client.server.create(
        CLUSTER_INFORMATION, msgspec.convert({"metadata": {"name": "default"}, "spec": spec}, ClusterInformation)
    )
    await made(client, [FOUR])
    assert client.information().spec.cluster_guid == "calicos-own"


@pytest.mark.parametrize(
    ("subnets", "expected"),
    [
        ("10.244.0.0/16", {"default-ipv4-ippool": "10.244.0.0/16"}),
        (
            "10.244.0.0/16, fd00:10:244::/56",
            {"default-ipv4-ippool": "10.244.0.0/16", "default-ipv6-ippool": "fd00:10:244::/56"},
        ),
        ("fd00:10:244::/56", {"default-ipv6-ippool": "fd00:10:244::/56"}),
        ("10.244.0.1/16", {"default-ipv4-ippool": "10.244.0.0/16"}),
    ],
)
async def test_kubeadms_pod_subnets_become_pools(subnets: str, expected: dict[str, str]) -> None:
    client = Client()
    client.kubeadm(f"networking:\n  podSubnet: {subnets}\n")
    assert await made(client, None)
    assert {name: pool.spec.cidr for name, pool in client.pools().items()} == expected
    for pool in client.pools().values():
        six = ":" in pool.spec.cidr
        assert (pool.block_size, pool.spec.nat_outgoing, pool.spec.vxlan_mode) == (
            122 if six else 26,
            not six,
            "CrossSubnet",
        )


@pytest.mark.parametrize(
    "configuration",
    [
        "",
        "networking: {}",
        "networking: {podSubnet: ''}",
        "- a list",
        "{unbalanced",
        "networking: text",
        "networking: {podSubnet: [1]}",
    ],
)
async def test_without_pod_subnets_nothing_is_settled_and_nothing_breaks(configuration: str) -> None:
    client = Client()
    client.kubeadm(configuration)
    assert not await made(client, None)
    assert client.pools() == {}
    assert MADE not in client.information().metadata.annotations


async def test_without_kubeadm_nothing_is_settled() -> None:
    assert not await made(Client(), None)


async def test_a_subnet_that_is_none_is_passed_over() -> None:
    client = Client()
    client.kubeadm("networking: {podSubnet: 'nonsense,10.244.0.0/16'}")
    assert await made(client, None)
    assert {pool.spec.cidr for pool in client.pools().values()} == {"10.244.0.0/16"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([{}], r"ipPools\[0\].*cidr"),
        ([FOUR, {"cidr": "10.0.0.5/16"}], r"ipPools\[1\].*10\.0\.0\.5/16.*host bits"),
        ([{"cidr": "nonsense"}], r"ipPools\[0\].*nonsense"),
        ([{"cidr": "10.0.0.0/16", "blockSize": "26"}], r"ipPools\[0\].*blockSize"),
        ([{"cidr": "10.0.0.0/16", "natOutGoing": True}], r"ipPools\[0\]: natOutGoing is no field of IPPool"),
        ([{"cidr": "10.0.0.0/16", "name": 5}], r"ipPools\[0\].*name.*5"),
        ([FOUR, {"cidr": "10.66.0.0/16"}], r"ipPools\[1\].*name.*default-ipv4-ippool"),
    ],
)
def test_a_value_that_says_no_pool_is_named_with_its_field(values: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(PoolValueError, match=said):
        given(values)


async def test_built_in_tiers_are_made_where_they_are_missing() -> None:
    client = Client()
    own = Tier(metadata=Metadata(name="default"), spec=TierSpec(order=5.0))
    client.server.create(TIER, own)
    await establish_tiers(client)  # type: ignore[arg-type]
    tiers = client.server.kind("tiers")
    assert tiers.keys() == BUILT_IN_TIERS.keys()
    assert tiers["default"].spec.order == 5.0
    assert tiers["kube-admin"].spec == BUILT_IN_TIERS["kube-admin"]
    assert defaults.MADE  # pools are not touched by it
    assert client.pools() == {}
