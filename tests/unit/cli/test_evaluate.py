"""`tortie policy evaluate`, `diff`, `test` and `tortie why`, on files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from .commands import CLUSTER, POLICIES, lines, run

TIERS = POLICIES / "tiers.yaml"
FLOW = ("--from", "pod:shop/cart", "--to", "pod:shop/db")


def evaluate(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    return run("policy", "evaluate", "--cluster", CLUSTER, TIERS, *arguments, stdin=stdin)


def test_one_flow_in_json_and_in_words() -> None:
    code, out, err = evaluate(*FLOW, "--port", "22", "-o", "jsonl")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "id": "",
        "verdict": "deny",
        "egress": {
            "verdict": "allow",
            "trace": [
                {"tier": "", "kind": "Profile", "namespace": "", "name": "kns.shop", "rule": 0, "action": "Allow"}
            ],
        },
        "ingress": {
            "verdict": "deny",
            "trace": [
                {
                    "tier": "security",
                    "kind": "GlobalNetworkPolicy",
                    "namespace": "",
                    "name": "security.databases",
                    "rule": 1,
                    "action": "Deny",
                }
            ],
        },
    }
    assert evaluate(*FLOW, "--port", "5432")[1].splitlines() == [
        "shop/cart → shop/db TCP 5432: allowed",
        "  leaving pod:shop/cart: allowed",
        "    no policy decides, and the namespace shop allows",
        "  arriving at pod:shop/db: allowed",
        "    tier security: GlobalNetworkPolicy security.databases, rule 0: passes to the next tier",
        "    tier default: NetworkPolicy shop/database, rule 0: allows",
    ]


def test_options_of_a_flow() -> None:
    def verdict(*arguments: str) -> str:
        return str(json.loads(evaluate(*arguments, "-o", "jsonl")[1])["verdict"])

    node = ("--from", "pod:shop/web", "--to", "host:node2")
    assert verdict(*node, "--protocol", "1", "--icmp", "3/4") == "allow"
    assert verdict(*node, "--protocol", "udp", "--port", "53", "--sport", "53") == "allow"
    service = ("--from", "pod:shop/cart", "--to", "ip:10.96.0.20", "--port", "1", "--dnat")
    assert verdict(*service, "10.1.1.2:5432") == "allow"
    assert verdict(*service, "10.1.1.2:22") == "deny"
    assert "ingress" not in json.loads(evaluate(*FLOW, "--port", "22", "--direction", "egress", "-o", "jsonl")[1])


def test_many_flows_one_line_each() -> None:
    flows = [
        {"id": "a", "from": "pod:shop/cart", "to": "pod:shop/db", "protocol": "TCP", "port": 5432},
        {"id": 7, "from": "pod:shop/web", "to": "pod:shop/web", "protocol": 6, "port": 1},
        {"id": 8, "from": "ip:203.0.113.1", "to": "ip:10.1.1.2", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}},
        {"id": 9, "from": "host:node1", "to": "pod:shop/db", "protocol": 132, "port": 5, "direction": "ingress"},
    ]
    text = "\n".join(map(json.dumps, flows)) + "\n\n"
    code, out, err = evaluate("--flows", "-", "-o", "jsonl", stdin=text)
    assert (code, err) == (0, "")
    assert [(each["id"], each["verdict"]) for each in lines(out)] == [
        ("a", "allow"),
        (7, "allow"),
        (8, "deny"),
        (9, "deny"),
    ]
    assert all(set(each) <= {"id", "verdict", "egress", "ingress"} for each in lines(out))


def test_a_flow_without_meaning_is_named_and_the_others_are_judged() -> None:
    ends = {1: "pod:a/b", 2: "ip:1.1.1.1"}
    flows = "\n".join(json.dumps({"id": n, "from": end, "to": "pod:office/desk", "port": 1}) for n, end in ends.items())
    code, out, err = evaluate("--flows", "-", "-o", "jsonl", stdin=flows)
    assert code == 1
    assert [each["id"] for each in lines(out)] == [2]
    assert err == "tortie policy evaluate: -:1: from 'pod:a/b': there is no such pod that runs\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        ((*FLOW, "--engine", "ebpf"), "", "argument --engine: invalid choice: 'ebpf'"),
        ((*FLOW, "--icmp", "echo"), "", "icmp 'echo': must be TYPE or TYPE/CODE"),
        ((), "", "needs either --flows, or --from and --to"),
        ((*FLOW, "--flows", "-"), "", "needs either --flows, or --from and --to"),
        (("--flows", "-"), "\n{", "-:2: Input data was truncated"),
        (("--flows", "-"), '{"from": "ip:1.1.1.1"}', "-:1: Object missing required field `to`"),
        (("--flows", "none.jsonl"), "", "none.jsonl: No such file"),
    ],
)
def test_bad_questions_are_named(arguments: tuple[str, ...], stdin: str, says: str) -> None:
    code, out, err = evaluate(*arguments, stdin=stdin)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "bad.yaml:2: is no YAML"),
        ("\na: 1\na: 2", "bad.yaml:3: this key is there already a"),
        ("- a", "bad.yaml:1: is no object"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: 1", "bad.yaml:1: Pod x: Expected `object`"),
    ],
)
def test_bad_manifests_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    code, _, err = run("policy", "evaluate", "--cluster", tmp_path, *FLOW, "--port", "1")
    assert code == 2
    assert says in err


def test_what_is_not_understood_in_a_policy_is_said(tmp_path: Path) -> None:
    text = TIERS.read_text().replace("app == 'cart'", "app = 'cart'")
    (tmp_path / "odd.yaml").write_text(text)
    code, out, err = run("policy", "evaluate", "--cluster", CLUSTER, tmp_path, *FLOW, "--port", "5432", "-o", "jsonl")
    assert (code, json.loads(out)["verdict"]) == (0, "deny")
    assert err.startswith("NetworkPolicy shop/database: spec.ingress[0].source.selector \"app = 'cart'\": character 5")


def test_lists_json_and_namespaces_left_out_are_as_for_kubectl(tmp_path: Path) -> None:
    documents = [each for file in (CLUSTER, TIERS) for each in yaml.safe_load_all(Path(file).read_text())]
    for each in documents:
        if each["metadata"].get("namespace") == "shop":
            del each["metadata"]["namespace"]
    (tmp_path / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    flow = ("--from", "pod:default/cart", "--to", "pod:default/db", "--port", "5432", "-o", "jsonl")
    code, out, _ = run("policy", "evaluate", "--cluster", tmp_path, *flow)
    assert (code, json.loads(out)["verdict"]) == (0, "allow")


def test_ten_thousand_flows_on_a_thousand_policies_take_no_half_minute(tmp_path: Path) -> None:
    policy = {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy"}
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"p{n}",
                "namespace": f"n{n % 20}",
                "labels": {"app": f"a{n % 7}", "role": f"r{n % 5}"},
            },
            "spec": {"nodeName": f"node{n % 10}"},
            "status": {"podIPs": [{"ip": f"10.0.{n >> 8}.{n & 255}"}]},
        }
        for n in range(1000)
    ]
    policies = [
        policy
        | {
            "metadata": {"name": f"p{n}"},
            "spec": {
                "order": n,
                "selector": f"role == 'r{n % 5}' && app == 'a{n % 7}'",
                "ingress": [
                    {"action": "Allow", "protocol": "TCP", "source": {"selector": f"app == 'a{(n + k) % 7}'"}}
                    | {"destination": {"ports": [8000 + (n * k) % 50]}}
                    for k in range(5)
                ],
            },
        }
        for n in range(1000)
    ]
    (tmp_path / "all.json").write_text(json.dumps({"kind": "List", "items": [*pods, *policies]}))
    flows = (
        {
            "id": n,
            "from": f"pod:n{n % 20}/p{n % 1000}",
            "to": f"pod:n{n * 7 % 20}/p{n * 7 % 1000}",
            "port": 8000 + n % 50,
        }
        for n in range(10_000)
    )
    (tmp_path / "flows.jsonl").write_text("\n".join(map(json.dumps, flows)))
    arguments = ("--cluster", tmp_path / "all.json", "--flows", tmp_path / "flows.jsonl", "-o", "jsonl")
    started = time.monotonic()
    code, out, _ = run("policy", "evaluate", *arguments)
    assert time.monotonic() - started < 30
    found = [each["verdict"] for each in lines(out)]
    assert (code, len(found)) == (0, 10_000)
    assert {"allow", "deny"} == set(found)
