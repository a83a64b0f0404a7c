"""What admission adds to the CRDs: built-in tiers stay, tiers have their own RBAC, and checks that no CRD can say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from ..controlplane import Cluster, Json, until
from .conftest import CRDS, collection, definitions

ADMISSION = CRDS.parent / "helm" / "tortie" / "files" / "admission"
FILES = ("built-in-tiers", "tier-rbac", "semantics")
BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
TIERED = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")
BUILT_IN: dict[str, Json] = {
    "kube-admin": {"order": 1000, "defaultAction": "Pass"},
    "default": {"order": 1000000, "defaultAction": "Deny"},
    "kube-baseline": {"order": 10000000, "defaultAction": "Pass"},
}

GROUP = "rbac.authorization.k8s.io"
RBAC = f"/apis/{GROUP}/v1"
TIERS = collection(BY_KIND["Tier"])
POLICIES = [BY_KIND[kind]["spec"]["names"]["plural"] for kind in TIERED]
PLAIN: Json = {"apiGroups": ["projectcalico.org"], "resources": POLICIES, "verbs": ["*"]}


STATUS = PLAIN | {"resources": [f"{plural}/status" for plural in POLICIES]}
WRITES = ("create", "update", "delete")


def tier(*names: str) -> Json:
    return {"apiGroups": ["projectcalico.org"], "resources": ["tiers"], "verbs": ["get"], "resourceNames": list(names)}


def policies(*names: str, verbs: tuple[str, ...] = WRITES, kinds: tuple[str, ...] = TIERED) -> Json:
    resources = ["tier." + BY_KIND[kind]["spec"]["names"]["plural"] for kind in kinds]
    return {"apiGroups": ["projectcalico.org"], "resources": resources, "verbs": [*verbs], "resourceNames": list(names)}


USERS: dict[str, list[Json]] = {
    "no-tier": [PLAIN, policies("default.*", "security.*")],
    "no-policy": [PLAIN, STATUS, tier("default", "security")],
    "default-all": [PLAIN, tier("default"), policies("default.*")],
    "security-web": [PLAIN, tier("default", "security"), policies("security.web")],
    "both": [PLAIN, tier("default", "security"), policies("default.*", "security.*")],
    "leaver": [PLAIN, tier("default", "security"), policies("default.*")],
    "comer": [PLAIN, tier("default", "security"), policies("security.*")],
    "creator": [PLAIN, tier("default"), policies("default.*", verbs=("create",))],
    "global": [PLAIN, tier("default"), policies("default.*", kinds=("GlobalNetworkPolicy",))],
    "unlimited": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    "elsewhere": [PLAIN, tier("default")],
}
"""Rules of the cluster role of each user."""


@pytest.fixture(scope="module")
def admitted(applied: Cluster) -> Iterator[Cluster]:
    """The cluster with the policies of admission in force, RBAC of USERS, and the built-in tiers."""
    files = [argument for name in FILES for argument in ("-f", str(ADMISSION / f"{name}.yaml"))]
    for name, spec in BUILT_IN.items():
        post(applied, TIERS, manifest("Tier", name, spec))
    for user, rules in USERS.items():
        grant(applied, user, rules)
    grant_in_namespace(applied, "elsewhere", "elsewhere", [policies("default.*")])
    applied.run("apply", "--server-side", *files)
    until(lambda: create(applied, "NetworkPolicy", user="no-tier")[0] == 403, "admission of tiers is not in force")
    until(partial(_refuses_ports, applied), "admission of ports is not in force")
    until(partial(_keeps_default, applied), "admission of built-in tiers is not in force")
    yield applied
    applied.run("delete", *files)
    until(lambda: _remove_tiers(applied), "built-in tiers cannot be deleted although nothing protects them")


def grant(cluster: Cluster, user: str, rules: list[Json]) -> None:
    role: Json = {"apiVersion": RBAC.removeprefix("/apis/"), "metadata": {"name": user}}
    binding: Json = {"subjects": [subject(user)], "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": user}}
    post(cluster, f"{RBAC}/clusterroles", role | {"kind": "ClusterRole", "rules": rules})
    post(cluster, f"{RBAC}/clusterrolebindings", role | {"kind": "ClusterRoleBinding"} | binding)


def grant_in_namespace(cluster: Cluster, user: str, namespace: str, rules: list[Json]) -> None:
    post(cluster, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    role: Json = {"apiVersion": RBAC.removeprefix("/apis/"), "metadata": {"name": user}}
    binding: Json = {"subjects": [subject(user)], "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": user}}
    post(cluster, f"{RBAC}/namespaces/{namespace}/roles", role | {"kind": "Role", "rules": rules})
    post(cluster, f"{RBAC}/namespaces/{namespace}/rolebindings", role | {"kind": "RoleBinding"} | binding)


def subject(user: str) -> Json:
    return {"apiGroup": GROUP, "kind": "User", "name": user}


def post(cluster: Cluster, path: str, body: Json) -> None:
    code, answer = cluster.request("POST", path, body)
    assert code == 201, answer["message"]


def manifest(kind: str, name: str, spec: Json, labels: dict[str, str] | None = None) -> Json:
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def create(
    cluster: Cluster, kind: str, name: str = "web", spec: Json | None = None, user: str = "", namespace: str = "default"
) -> tuple[int, Json]:
    path = collection(BY_KIND[kind]).replace("/default/", f"/{namespace}/")
    return cluster.request("POST", f"{path}?dryRun=All", manifest(kind, name, spec or {}), user=user)


def _refuses_ports(cluster: Cluster) -> bool:
    spec = {"ingress": [{"action": "Allow", "protocol": "TCP", "source": {"ports": ["2:1"]}}]}
    return create(cluster, "NetworkPolicy", spec=spec)[0] == 422


def _keeps_default(cluster: Cluster) -> bool:
    return cluster.request("DELETE", f"{TIERS}/default?dryRun=All")[0] == 403


def _remove_tiers(cluster: Cluster) -> bool:
    cluster.request("DELETE", TIERS)
    return cluster.request("GET", TIERS)[1]["items"] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_tier_cannot_be_deleted(admitted: Cluster, name: str) -> None:
    code, answer = admitted.request("DELETE", f"{TIERS}/{name}")
    assert code == 403
    assert f"tier {name} is built in and cannot be deleted" in answer["message"]


def test_deleting_all_tiers_leaves_the_built_in_ones(admitted: Cluster) -> None:
    post(admitted, TIERS, manifest("Tier", "security", {"order": 1}))
    assert admitted.request("DELETE", f"{TIERS}?labelSelector=!no-such")[0] == 403
    admitted.request("DELETE", f"{TIERS}/security")
    assert {each["metadata"]["name"] for each in admitted.request("GET", TIERS)[1]["items"]} == BUILT_IN.keys()


@pytest.mark.parametrize("kind", TIERED)
@pytest.mark.parametrize(
    ("user", "tier", "name", "says"),
    [
        ("no-tier", "", "web", "user no-tier cannot create policy web without get on tier default"),
        ("no-tier", "security", "web", "user no-tier cannot create policy web without get on tier security"),
        ("no-policy", "", "web", "user no-policy cannot create policy web without create on tier."),
        ("no-policy", "security", "web", "policies in tier security"),
        ("default-all", "", "web", ""),
        ("default-all", "default", "default.web", ""),
        ("default-all", "security", "web", "without get on tier security"),
        ("security-web", "security", "web", ""),
        ("security-web", "security", "security.web", ""),
        ("security-web", "security", "api", "user security-web cannot create policy api without create on tier."),
        ("security-web", "security", "default.web", "user security-web cannot create policy default.web"),
        ("security-web", "default", "web", "policies in tier default"),
        ("unlimited", "security", "web", ""),
        ("", "security", "web", ""),
    ],
)
def test_creating_takes_the_right_on_the_tier(
    admitted: Cluster, kind: str, user: str, tier: str, name: str, says: str
) -> None:
    code, answer = create(admitted, kind, name, {"tier": tier}, user)
    assert code == (403 if says else 201), answer["message"]
    assert says in answer.get("message", "")


@pytest.mark.parametrize(
    ("user", "old", "new", "says"),
    [
        ("both", "default", "security", ""),
        ("both", "security", "default", ""),
        (
            "leaver",
            "default",
            "security",
            "user leaver cannot update policy web without update on tier.networkpolicies",
        ),
        ("leaver", "default", "security", "in tier security"),
        ("comer", "default", "security", "user comer cannot update policy web without update on tier.networkpolicies"),
        ("comer", "default", "security", "in tier default"),
        (
            "default-all",
            "default",
            "security",
            "user default-all cannot update policy web without get on tier security",
        ),
        (
            "default-all",
            "security",
            "default",
            "user default-all cannot update policy web without get on tier security",
        ),
        ("default-all", "default", "default", ""),
        ("creator", "default", "default", "without update on tier.networkpolicies in tier default"),
        ("security-web", "security", "security", ""),
    ],
)
def test_moving_takes_the_right_on_both_tiers(admitted: Cluster, user: str, old: str, new: str, says: str) -> None:
    path = collection(BY_KIND["NetworkPolicy"])
    post(admitted, path, manifest("NetworkPolicy", "web", {"tier": old}))
    try:
        body = {"spec": {"tier": new, "order": 7}}
        code, answer = admitted.request("PATCH", f"{path}/web", body, "merge-patch+json", user=user)
    finally:
        admitted.request("DELETE", f"{path}/web")
    assert code == (403 if says else 200), answer["message"]
    assert says in answer.get("message", "")


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("default-all", ""),
        ("creator", "user creator cannot delete policy web"),
        ("no-tier", "without get on tier default"),
    ],
)
@pytest.mark.parametrize("one", [True, False])
def test_deleting_takes_the_right_on_the_tier(admitted: Cluster, user: str, says: str, one: bool) -> None:
    path = collection(BY_KIND["GlobalNetworkPolicy"])
    post(admitted, path, manifest("GlobalNetworkPolicy", "web", {}))
    try:
        code, answer = admitted.request("DELETE", f"{path}/web" if one else path, user=user)
    finally:
        admitted.request("DELETE", f"{path}/web")
    assert code == (403 if says else 200), answer["message"]
    assert says in answer.get("message", "")


def test_rights_are_told_apart_by_resource_and_namespace(admitted: Cluster) -> None:
    assert create(admitted, "GlobalNetworkPolicy", user="global")[0] == 201
    assert create(admitted, "StagedGlobalNetworkPolicy", user="global")[0] == 403
    assert create(admitted, "NetworkPolicy", user="elsewhere", namespace="elsewhere")[0] == 201
    assert create(admitted, "NetworkPolicy", user="elsewhere")[0] == 403
    assert create(admitted, "GlobalNetworkPolicy", user="elsewhere")[0] == 403


def test_reading_and_status_take_no_right_on_the_tier(admitted: Cluster) -> None:
    path = collection(BY_KIND["NetworkPolicy"])
    post(admitted, path, manifest("NetworkPolicy", "web", {}))
    try:
        assert admitted.request("GET", path, user="no-policy")[0] == 200
        status = {"status": {"conditions": []}}
        code, answer = admitted.request("PATCH", f"{path}/web/status", status, "merge-patch+json", user="no-policy")
        assert code == 200, answer["message"]
    finally:
        admitted.request("DELETE", f"{path}/web")


@pytest.mark.parametrize("kind", TIERED)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("field", ["ports", "notPorts"])
def test_ranges_of_ports_are_in_order(admitted: Cluster, kind: str, direction: str, side: str, field: str) -> None:
    def tried(*ports: int | str) -> tuple[int, Json]:
        rule = {"action": "Allow", "protocol": "TCP", side: {field: list(ports)}}
        return create(admitted, kind, spec={direction: [{"action": "Log"}, rule]})

    assert tried(80, "http", "80", "80:80", "9:10")[0] == 201
    code, answer = tried("9:10", "http", "10:9")
    assert code == 422
    assert 'ports ["10:9"] must not begin above their end' in answer["message"]


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("field", ["ports", "notPorts"])
def test_ports_that_are_numbers_need_a_protocol(admitted: Cluster, side: str, field: str) -> None:
    for ports, says in [(["80-a", "a8"], ""), (["http", "80"], '["80"]'), (["80:81"], '["80:81"]')]:
        code, answer = create(admitted, "NetworkPolicy", spec={"ingress": [{"action": "Allow", side: {field: ports}}]})
        assert code == (422 if says else 201), answer
        assert not says or f"ports {says} need the protocol TCP, UDP or SCTP" in answer["message"]


def test_a_policy_too_big_for_that_passes(admitted: Cluster) -> None:
    rule = {"action": "Allow", "protocol": "TCP", "source": {"ports": ["2:1"] * 50}}
    for count, code in ((10, 422), (1024, 201)):
        assert create(admitted, "NetworkPolicy", spec={"ingress": [rule] * count, "egress": [rule] * count})[0] == code


@pytest.mark.parametrize("kind", ["NetworkSet", "GlobalNetworkSet"])
def test_a_network_set_has_no_label_of_calicos_own(admitted: Cluster, kind: str) -> None:
    path = f"{collection(BY_KIND[kind])}?dryRun=All"
    assert admitted.request("POST", path, manifest(kind, "a", {}, {"projectcalico.org/name": "a"}))[0] == 201
    code, answer = admitted.request("POST", path, manifest(kind, "a", {}, {"projectcalico.org/namespace": "a"}))
    assert code == 422
    assert "metadata.labels must not have projectcalico.org/namespace" in answer["message"]


def test_communities_of_advertisements_are_known(admitted: Cluster) -> None:
    def tried(*communities: str) -> tuple[int, Json]:
        advertised = [{"cidr": "10.0.0.0/8", "communities": list(communities)}]
        spec = {"communities": [{"name": "internal", "value": "1:2"}], "prefixAdvertisements": advertised}
        return create(admitted, "BGPConfiguration", spec=spec)

    assert tried("internal", "65001:1", "65001:1:2")[0] == 201
    code, answer = tried("internal", "external", "65001")
    assert code == 422
    assert 'communities ["external", "65001"] of prefixAdvertisements must be' in answer["message"]
