"""Each value has the effect that its comment says, and a wrong one is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tortie.operator import main as operator_main

from .conftest import CHART, HelmFailed, Json, Values, one, render

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
POOL = {"name": "pods", "cidr": "10.9.0.0/16", "blockSize": 27, "vxlanMode": "Always", "natOutgoing": True}


def nested(path: str, value: Any) -> Values:
    """{"a": {"b": value}} of a.b."""
    for key in reversed(path.split(".")):
        value = {key: value}
    found: Values = value
    return found


def workload(kind: str, name: str) -> Callable[[list[Json]], Json]:
    def find(documents: list[Json]) -> Json:
        spec: Json = one(documents, kind, name)["spec"]
        return spec

    return find


operator, agent = workload("Deployment", "tortie-operator"), workload("DaemonSet", "tortie-agent")


def pod(spec: Json) -> Json:
    found: Json = spec["template"]["spec"]
    return found


def container(spec: Json) -> Json:
    (found,) = pod(spec)["containers"]
    return found


def environment(documents: list[Json]) -> list[dict[str, str | None]]:
    """What both programs are told beside the fields of their pods."""
    both = (container(operator(documents)), container(agent(documents)))
    return [{each["name"]: each["value"] for each in found["env"] if "value" in each} for found in both]


def pools(documents: list[Json]) -> Any:
    """The operator's option as the operator itself reads it."""
    arguments = [text.replace("$(NAMESPACE)", "x") for text in container(operator(documents))["args"]]
    return operator_main.Options.parse(arguments).ip_pools


def crds(documents: list[Json]) -> dict[str, Json]:
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == "CustomResourceDefinition"}


def kept(documents: list[Json]) -> set[bool]:
    return {"helm.sh/resource-policy" in crd["metadata"].get("annotations", {}) for crd in crds(documents).values()}


def has_cluster_network_policies(documents: list[Json]) -> bool:
    return "clusternetworkpolicies.policy.networking.k8s.io" in crds(documents)


def host_path(name: str) -> Callable[[list[Json]], str]:
    def find(documents: list[Json]) -> str:
        (volume,) = (each for each in pod(agent(documents))["volumes"] if each["name"] == name)
        found: str = volume["hostPath"]["path"]
        return found

    return find


def port(spec: Json) -> tuple[int, bool]:
    """The port by which the probes and Prometheus find the program, and whether it was told the same."""
    found = container(spec)
    (named,) = found["ports"]
    number: int = named["containerPort"]
    return number, f"--metrics-port={number}" in found["args"]


def pull_secrets(documents: list[Json]) -> list[Any]:
    return [pod(spec).get("imagePullSecrets") for spec in (operator(documents), agent(documents))]


def monitors(documents: list[Json]) -> list[Json]:
    return [document for document in documents if document["kind"] == "PodMonitor"]


HOST = {"apiServer": {"host": "api.example.org"}}
MONITOR = {"podMonitor": {"enabled": True}}
SECRET = [{"name": "registry"}]
IMAGES = {
    part: {
        f"{part}.image.repository": ("example.org:5000/t", "example.org:5000/t:0.1.0", f"tortie/{part}:0.1.0"),
        f"{part}.image.tag": ("1.2", f"tortie/{part}:1.2", f"tortie/{part}:0.1.0"),
    }
    for part in ("operator", "agent")
}

# path → (value, what is looked at, what it is with the value, what it is without)
EFFECTS: dict[str, tuple[Any, Callable[[list[Json]], Any], Any, Any]] = {
    "apiServer.host": (
        "fd00::1",
        environment,
        [{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}] * 2,
        [{}] * 2,
    ),
    "ipPools": ([POOL], pools, [POOL], None),
    "crds.keep": (False, kept, {False}, {True}),
    "crds.clusterNetworkPolicy": (False, has_cluster_network_policies, False, True),
    "imagePullSecrets": (SECRET, pull_secrets, [SECRET, SECRET], [None, None]),
    "operator.replicas": (3, lambda found: operator(found)["replicas"], 3, 2),
    "operator.metricsPort": (19094, lambda found: port(operator(found)), (19094, True), (9094, True)),
    "agent.metricsPort": (19091, lambda found: port(agent(found)), (19091, True), (9091, True)),
    "agent.maxUnavailable": (
        "10%",
        lambda found: agent(found)["updateStrategy"],
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
    ),
    "agent.cniBinDir": ("/var/lib/cni/bin", host_path("cni-bin"), "/var/lib/cni/bin", "/opt/cni/bin"),
    "agent.cniConfDir": ("/var/lib/cni/conf", host_path("cni-conf"), "/var/lib/cni/conf", "/etc/cni/net.d"),
    "podMonitor.enabled": (True, lambda found: len(monitors(found)), 1, 0),
}
for part, spec_of in (("operator", operator), ("agent", agent)):
    for path, (value, with_it, without) in IMAGES[part].items():
        EFFECTS[path] = (value, lambda found, of=spec_of: container(of(found))["image"], with_it, without)
    EFFECTS |= {
        f"{part}.image.pullPolicy": (
            "Always",
            lambda found, of=spec_of: container(of(found))["imagePullPolicy"],
            "Always",
            "IfNotPresent",
        ),
        f"{part}.resources.requests": (
            {"cpu": "1", "memory": "1Gi"},
            lambda found, of=spec_of: container(of(found))["resources"]["requests"],
            {"cpu": "1", "memory": "1Gi"},
            VALUES[part]["resources"]["requests"],
        ),
        f"{part}.resources.limits": (
            {"memory": "3Gi"},
            lambda found, of=spec_of: container(of(found))["resources"]["limits"],
            {"memory": "3Gi"},
            VALUES[part]["resources"]["limits"],
        ),
        f"{part}.nodeSelector": (
            {"pool": "a"},
            lambda found, of=spec_of: pod(of(found))["nodeSelector"],
            {"kubernetes.io/os": "linux", "pool": "a"},
            {"kubernetes.io/os": "linux"},
        ),
    }

# The same for values that have an effect only beside others, which stand first.
TOGETHER: dict[str, tuple[Values, Any, Callable[[list[Json]], Any], Any, Any]] = {
    "apiServer.port": (
        HOST,
        443,
        lambda found: [each["KUBERNETES_SERVICE_PORT"] for each in environment(found)],
        ["443"] * 2,
        ["6443"] * 2,
    ),
    "podMonitor.labels": (
        MONITOR,
        {"release": "prometheus"},
        lambda found: monitors(found)[0]["metadata"]["labels"].get("release"),
        "prometheus",
        None,
    ),
    "podMonitor.interval": (
        MONITOR,
        "5m",
        lambda found: monitors(found)[0]["spec"]["podMetricsEndpoints"][0]["interval"],
        "5m",
        "30s",
    ),
}

# path → a value that is refused
REFUSED: dict[str, Any] = {
    "apiServer.host": "https://api.example.org",
    "apiServer.port": 0,
    "ipPools": "10.9.0.0/16",
    "ipPools.0.cidr": "10.9.0.0",
    "ipPools.0.blockSize": 129,
    "ipPools.0.vxlanMode": "Sometimes",
    "ipPools.0.natOutGoing": True,
    "crds.keep": "yes",
    "crds.clusterNetworkPolicy": 1,
    "imagePullSecrets": ["registry"],
    **{
        f"{part}.{name}": value
        for part in ("operator", "agent")
        for name, value in {
            "image.repository": "Not A Repository",
            "image.tag": "a b",
            "image.pullPolicy": "Sometimes",
            "resources.requests": "1Gi",
            "resources.limits": ["1Gi"],
            "nodeSelector": {"pool": 1},
            "metricsPort": 65536,
            "replica": 1,
        }.items()
    },
    "operator.replicas": 0,
    "agent.maxUnavailable": 0,
    "agent.cniBinDir": "opt/cni/bin",
    "agent.cniConfDir": "",
    "podMonitor.enabled": "true",
    "podMonitor.labels": {"a": 1},
    "podMonitor.interval": "soon",
    "felix": {},
}


def paths(values: Values, schema: Json, above: str = "") -> Iterator[str]:
    """Every value that the schema tells apart; maps of labels and quantities are one."""
    for name, value in values.items():
        found = schema["properties"][name]
        found = SCHEMA["definitions"][found["$ref"].rsplit("/", 1)[1]] if "$ref" in found else found
        if isinstance(value, dict) and "properties" in found:
            yield from paths(value, found, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def test_every_value_is_tried_off_its_default_and_refused() -> None:
    all_paths = sorted(paths(VALUES, SCHEMA))
    assert sorted(EFFECTS | TOGETHER) == all_paths
    assert set(all_paths) <= set(REFUSED)


def test_every_value_has_a_comment() -> None:
    leaves = {path.rsplit(".", 1)[-1] for path in paths(VALUES, SCHEMA)}
    above, seen = "", set()
    for line in map(str.strip, (CHART / "values.yaml").read_text().splitlines()):
        name = line.split(":")[0]
        if name in leaves:
            assert above.startswith("#"), f"{name} has no comment"
            seen.add(name)
        above = line
    assert seen == leaves


@pytest.mark.parametrize("path", EFFECTS)
def test_a_value_has_its_effect(path: str, defaults: list[Json]) -> None:
    value, look, expected, otherwise = EFFECTS[path]
    assert look(defaults) == otherwise
    assert look(render(nested(path, value))) == expected


@pytest.mark.parametrize("path", TOGETHER)
def test_a_value_has_its_effect_beside_another(path: str) -> None:
    given, value, look, expected, otherwise = TOGETHER[path]
    group, name = path.split(".")
    assert look(render(given)) == otherwise
    assert look(render({group: given[group] | {name: value}})) == expected


def test_no_pools_are_not_the_same_as_kubeadms_pools(defaults: list[Json]) -> None:
    assert pools(render({"ipPools": []})) == []
    assert pools(defaults) is None


def test_a_pools_fields_are_those_of_the_ippool_kind() -> None:
    crd = yaml.safe_load((CHART.parents[1] / "crds" / "projectcalico.org_ippools.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    ours = SCHEMA["properties"]["ipPools"]["items"]["properties"]
    assert ours.keys() == spec.keys() | {"name"}
    for name, field in spec.items():
        assert ours[name].get("enum") == field.get("enum"), name


@pytest.mark.parametrize("path", REFUSED)
def test_a_wrong_value_is_refused_by_name(path: str) -> None:
    group, _, field = path.partition(".0.")
    pool = {"cidr": "10.9.0.0/16"} | {field: REFUSED[path]}
    values = {"ipPools": [pool]} if field else nested(path, REFUSED[path])
    with pytest.raises(HelmFailed) as refused:
        render(values)
    message = str(refused.value)
    assert "values don't meet the specifications of the schema" in message
    for part in (*group.split("."), field):
        assert part in message
