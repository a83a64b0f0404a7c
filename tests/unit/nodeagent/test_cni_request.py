"""What a runtime asks, understood or refused with field and value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.nodeagent.cni.errors import CniError
from tortie.nodeagent.cni.request import Attachment, Request, arguments, decode
from tortie.nodeagent.cni.result import Address, Result, result
from tortie.nodeagent.endpoints import EndpointRecord

VARIABLES = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "0123abcd",
    "CNI_NETNS": "/var/run/netns/cni-1",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u1",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = {"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "tortie"}


def ask(variables: dict[str, str] | None = None, config: Any = None) -> Request:
    text = config if isinstance(config, bytes) else json.dumps(CONFIG | (config or {})).encode()
    return decode(VARIABLES | (variables or {}), text)


def test_a_runtimes_call_is_understood() -> None:
    request = ask()
    assert (request.command, request.container_id, request.ifname) == ("ADD", "0123abcd", "eth0")
    assert (request.namespace, request.name, request.uid) == ("default", "web-0", "u1")
    assert (request.config.cni_version, request.config.policy_setup_timeout_seconds) == ("1.0.0", 5.0)


@pytest.mark.parametrize(
    ("variables", "config", "code", "parts"),
    [
        ({"CNI_COMMAND": "add"}, {}, 4, ["CNI_COMMAND='add'", "ADD"]),
        ({"CNI_CONTAINERID": ""}, {}, 4, ["CNI_CONTAINERID=''"]),
        ({"CNI_CONTAINERID": "../../etc"}, {}, 4, ["CNI_CONTAINERID='../../etc'"]),
        ({"CNI_CONTAINERID": "a" * 201}, {}, 4, ["CNI_CONTAINERID="]),
        ({"CNI_CONTAINERID": "abc\n"}, {}, 4, ["CNI_CONTAINERID="]),
        ({"CNI_IFNAME": "a234567890123456"}, {}, 4, ["CNI_IFNAME='a234567890123456'"]),
        ({"CNI_IFNAME": ".."}, {}, 4, ["CNI_IFNAME='..'"]),
        ({"CNI_IFNAME": "a b"}, {}, 4, ["CNI_IFNAME='a b'"]),
        ({"CNI_NETNS": ""}, {}, 4, ["CNI_NETNS"]),
        ({"CNI_ARGS": "K8S_POD_NAME=web"}, {}, 4, ["CNI_ARGS='K8S_POD_NAME=web'", "K8S_POD_NAMESPACE"]),
        ({"CNI_ARGS": "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b/c"}, {}, 4, ["CNI_ARGS=", "K8S_POD_NAME "]),
        ({}, b"{", 6, ["network configuration"]),
        ({}, b"", 6, ["network configuration"]),
        ({}, b"\xff\xff", 6, ["network configuration"]),
        ({}, b"[]", 7, ["network configuration"]),
        ({}, {"cniVersion": "0.3.1"}, 1, ["'0.3.1'", "0.4.0 1.0.0 1.1.0"]),
        ({}, {"cniVersion": ""}, 1, ["''"]),
        ({}, {"cniVersion": 1}, 7, ["$.cniVersion", "= 1"]),
        ({}, {"dns": "10.96.0.10"}, 7, ["$.dns", '= "10.96.0.10"']),
        ({}, {"policySetupTimeoutSeconds": "5s"}, 7, ["$.policySetupTimeoutSeconds", '= "5s"']),
        ({}, {"policySetupTimeoutSeconds": -1}, 7, ["policySetupTimeoutSeconds -1"]),
        ({}, {"policySetupTimeoutSeconds": 91}, 7, ["policySetupTimeoutSeconds 91", "90"]),
        ({"CNI_COMMAND": "CHECK"}, {}, 7, ["prevResult"]),
        ({"CNI_COMMAND": "CHECK"}, {"prevResult": {"ips": [{"address": 4}]}}, 7, ["$.prevResult.ips", '"address":4']),
        ({"CNI_COMMAND": "GC"}, {}, 1, ["1.0.0", "GC"]),
        (
            {"CNI_COMMAND": "GC"},
            {"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "x"}]},
            7,
            ["cni.dev/valid-attachments", "ifname"],
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_value(
    variables: dict[str, str], config: Any, code: int, parts: list[str]
) -> None:
    with pytest.raises(CniError) as error:
        ask(variables, config)
    assert error.value.code == code
    for part in parts:
        assert part in str(error.value)
    encoded = json.loads(error.value.encode("1.0.0"))
    assert encoded == {"cniVersion": "1.0.0", "code": code, "msg": str(error.value)}


def test_del_makes_do_with_little() -> None:
    request = ask({"CNI_COMMAND": "DEL", "CNI_NETNS": "", "CNI_ARGS": ""})
    assert (request.netns, request.namespace, request.name) == ("", "", "")


def test_gc_tells_no_list_from_an_empty_one() -> None:
    def valid(**extra: Any) -> Any:
        return ask({"CNI_COMMAND": "GC"}, {"cniVersion": "1.1.0"} | extra).config.valid_attachments

    assert valid() is msgspec.UNSET
    assert valid(**{"cni.dev/valid-attachments": None}) is None
    assert valid(**{"cni.dev/valid-attachments": []}) == ()
    given = [{"containerID": "c1", "ifname": "eth0", "more": 1}]
    assert valid(**{"cni.dev/valid-attachments": given}) == (Attachment(container_id="c1", ifname="eth0"),)


def test_arguments_may_hold_anything() -> None:
    assert arguments("A=1;;B=x=y;C") == {"A": "1", "B": "x=y", "C": ""}
    assert arguments("") == {}


@given(st.dictionaries(st.sampled_from(sorted(VARIABLES)), st.text()), st.binary() | st.text().map(str.encode))
def test_nothing_but_a_cni_error_is_raised(variables: dict[str, str], stdin: bytes) -> None:
    for config in (stdin, json.dumps(CONFIG).encode()):
        try:
            decode(VARIABLES | variables, config)
        except CniError as error:
            assert json.loads(error.encode("1.1.0"))["code"] in (1, 4, 6, 7)  # noqa: PT017


RECORD = EndpointRecord(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/c1",
    namespace="d",
    name="web",
    uid="u1",
    host_ifname="cali1",
    host_ifindex=11,
    pod_mac="aa:bb:cc:00:00:01",
    addresses=("10.0.0.2", "fd00::2"),
    mtu=1430,
    created=2.0,
)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_result_holds_what_its_version_knows(version: str) -> None:
    made = json.loads(msgspec.json.encode(result(RECORD, version, {"domain": "x"})))
    assert made["cniVersion"] == version
    assert made["dns"] == {"domain": "x"}
    assert [each.get("version") for each in made["ips"]] == (["4", "6"] if version == "0.4.0" else [None, None])
    assert [each.get("mtu") for each in made["interfaces"]] == ([1430, 1430] if version == "1.1.0" else [None, None])
    assert [each.get("scope") for each in made["routes"]] == ([253] if version == "1.1.0" else [None]) + [None, None]
    assert {each["interface"] for each in made["ips"]} == {1}
    assert made["interfaces"][1]["sandbox"] == "/run/netns/c1"
    assert "sandbox" not in made["interfaces"][0]


def test_a_result_can_be_read_again() -> None:
    again = msgspec.json.decode(msgspec.json.encode(result(RECORD, "1.1.0", {})), type=Result)
    assert again == result(RECORD, "1.1.0", {})
    assert again.ips[0] == Address(address="10.0.0.2/32", gateway="169.254.1.1", interface=1)
