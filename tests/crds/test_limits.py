"""The biggest objects that can be stored are judged by every rule.

The API server limits what rules of CEL may cost: by an estimate before it takes a CRD, by the true cost on each object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count, islice

import pytest

from ..controlplane import Cluster, Json
from .conftest import collection, definitions

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
STORED = 1_500_000
"""Bytes: etcd takes 1.5 MiB."""


def networks() -> Iterator[str]:
    return (f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/24" for n in count())


def long_networks() -> Iterator[str]:
    return (f"2001:db8:{n >> 16:x}:{n & 65535:04x}:aaaa:bbbb:cccc:dddd/128" for n in count())


def nets(source: Callable[[], Iterator[str]], each: int) -> Json:
    """A rule with four lists of `each` nets."""
    lists = [list(islice(source(), each)) for _ in range(4)]
    sides = [{"nets": lists[0], "notNets": lists[1]}, {"nets": lists[2], "notNets": lists[3]}]
    return {"action": "Allow", "source": sides[0], "destination": sides[1]}


def ports(*values: int | str) -> Json:
    side = {"ports": list(values), "notPorts": list(values)}
    return {"action": "Allow", "protocol": "TCP", "source": side, "destination": side}


SELECTOR = "a == '%s'" % ("b" * 1000)
SHAPES: dict[str, Json] = {
    "long lists of nets": nets(networks, 256),
    "short lists of nets": nets(networks, 12),
    "IPv6 nets": nets(long_networks, 256),
    "selectors": {"action": "Pass", "source": {"selector": SELECTOR, "namespaceSelector": SELECTOR}},
    "ports": ports(*range(1, 51)),
    "ranges of ports": ports(*(f"{n}:{n + 1}" for n in range(1, 51))),
    "empty rules": {"action": "Log"},
}


def biggest(rule: Json) -> Json:
    """The policy with as many such rules as are allowed and can be stored."""
    rules = min(1024, STORED // 2 // len(json.dumps(rule)))
    spec = {"tier": "default", "ingress": [rule] * rules, "egress": [rule] * rules}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "big"},
        "spec": spec,
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_the_biggest_policy_is_accepted(applied: Cluster, shape: str) -> None:
    path = collection(BY_KIND["GlobalNetworkPolicy"])
    code, answer = applied.request("POST", path, biggest(SHAPES[shape]))
    assert code == 201, answer["message"][:1000]
    applied.request("DELETE", f"{path}/big")


def test_the_biggest_policy_is_judged_to_its_end(applied: Cluster) -> None:
    body = biggest(SHAPES["long lists of nets"])
    body["spec"]["egress"][-1] = {"action": "Allow", "source": {"nets": ["10.0.0.1/8"]}}
    code, answer = applied.request("POST", f"{collection(BY_KIND['GlobalNetworkPolicy'])}?dryRun=All", body)
    assert code == 422
    last = len(body["spec"]["egress"]) - 1
    assert [each["field"] for each in answer["details"]["causes"]] == [f"spec.egress[{last}].source.nets[0]"]


def test_the_biggest_network_set_is_accepted(applied: Cluster) -> None:
    spec = {"nets": list(islice(networks(), STORED // 18))}
    body = {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": {"name": "big"}, "spec": spec}
    path = collection(BY_KIND["GlobalNetworkSet"])
    code, answer = applied.request("POST", path, body)
    assert code == 201, answer["message"][:1000]
    applied.request("DELETE", f"{path}/big")
