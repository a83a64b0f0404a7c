"""`tortie policy diff`, `tortie policy test` and `tortie why`, on files."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from .commands import CLUSTER, POLICIES, lines, run

DENY = POLICIES / "kubernetes-deny-ingress.yaml"


def diff(*new: str | Path, before: tuple[str | Path, ...] = (), output: str = "json") -> tuple[int, str]:
    code, out, err = run("policy", "diff", "--cluster", CLUSTER, *before, "-f", *new, "-o", output)
    assert err == ""
    return code, out


def changed(out: str) -> set[tuple[str, str, int, str]]:
    found = lines(out)
    return {
        (each["flow"]["from"][4:], each["flow"]["to"][4:], each["flow"]["port"], each["after"]["verdict"])
        for each in found
    }


def test_a_new_policy_changes_exactly_the_flows_that_it_denies() -> None:
    code, out = diff(DENY)
    pods = ["shop/web", "shop/cart", "shop/db", "shop/payments", "shop/phone"]
    others = ["office/desk", "office/intern", "monitoring/prometheus", "kube-system/dns"]
    ports = {"shop/web": [8080, 9100], "shop/cart": [7000, 9100], "shop/db": [5432], "shop/payments": [8443]}
    ports |= {"shop/phone": [3868]}
    expected = {
        (source, target, port, "deny")
        for source, target in product(pods + others, pods)
        for port in ports[target]
        if source != target
    }
    assert code == 1
    assert changed(out) == expected


def test_what_is_applied_replaces_what_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(
        DENY.read_text().replace("podSelector: {}", "podSelector: {matchLabels: {app: web}}")
    )
    code, out = diff(tmp_path, before=(DENY,))
    assert code == 1
    assert {verdict for *_, verdict in changed(out)} == {"allow"}
    assert {target for _, target, *_ in changed(out)} == {"shop/cart", "shop/db", "shop/payments", "shop/phone"}


def test_labels_that_change_what_policies_mean_count_too(tmp_path: Path) -> None:
    reports = POLICIES / "kubernetes-both-selectors.yaml"
    (tmp_path / "office.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: office}\n")
    code, out = diff(tmp_path, before=(reports,))
    assert (code, changed(out)) == (1, {("office/desk", "shop/db", 5432, "deny")})


def test_nothing_changes() -> None:
    assert diff(POLICIES / "staged.yaml") == (0, "")
    assert diff(DENY, before=(DENY,), output="text") == (0, "flows that change: 0\n")


def test_a_change_is_explained() -> None:
    code, out = diff(POLICIES / "kubernetes-both-selectors.yaml", before=(DENY,), output="text")
    assert code == 1
    assert out.splitlines() == [
        "office/desk → shop/db TCP 5432: denied → allowed",
        "  ingress before: denied",
        "    tier default: no rule matches of what governs it (up to KubernetesNetworkPolicy shop/deny-ingress), "
        "the tier ends with Deny",
        "flows that change: 1",
    ]


def expectations(directory: Path, expect: str, head: str = "") -> Path:
    file = directory / "x.test.yaml"
    head = head or f"apiVersion: tortie.io/v1alpha1\nkind: PolicyTest\nmanifests: [{CLUSTER}, {DENY}]\n"
    file.write_text(f"{head}expect: {expect}\n")
    return file


def test_what_is_not_as_expected_is_explained(tmp_path: Path) -> None:
    file = expectations(
        tmp_path, "[{allow: {from: [shop/cart, shop/web], to: shop/web, port: 8080}, because: they work together}]"
    )
    code, out, _ = run("policy", "test", file)
    assert code == 1
    first, *_, last = out.splitlines()
    assert first == f"{file}: shop/cart → shop/web TCP 8080: is denied, should be allowed (they work together)"
    assert "KubernetesNetworkPolicy shop/deny-ingress" in out
    assert last == f"{file}: 1 as expected, 1 not"


def test_results_in_json(tmp_path: Path) -> None:
    file = expectations(
        tmp_path, "[{deny: {from: 'ip:203.0.113.1', to: shop/web, port: [80, 81], direction: ingress}}]"
    )
    code, out, _ = run("policy", "test", file, "-o", "json")
    first, second = lines(out)
    assert (code, first["passed"], first["expected"], first["verdict"]) == (0, True, "deny", "deny")
    assert [each["flow"]["port"] for each in (first, second)] == [80, 81]
    assert first["ingress"]["trace"][0]["rule"] == "end-of-tier"
    assert first["egress"] is None


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("[{deny: {from: shop/web, to: shop/none, port: 1}}]", "to 'pod:shop/none': there is no such pod that runs"),
        ("[{deny: {from: shop/web, to: shop/db}}]", "port None: TCP needs a port"),
        ("[{deny: {from: shop/web, to: shop/db, ports: 1}}]", "unknown field `ports` - at `$.expect[0].deny`"),
        ("[{because: x}]", "needs either allow or deny - at `$.expect[0]`"),
        ("[]", "nothing is expected"),
    ],
)
def test_expectations_without_meaning_are_named(tmp_path: Path, expect: str, says: str) -> None:
    code, out, err = run("policy", "test", expectations(tmp_path, expect))
    assert (code, out) == (2, "")
    assert says in err


def test_a_file_that_is_no_test_is_named(tmp_path: Path) -> None:
    assert "unknown field" in run("policy", "test", DENY)[2]
    head = "apiVersion: tortie.io/v1alpha1\nkind: PolicyTest\nmanifests: [none.yaml]\n"
    assert (
        "none.yaml: No such file"
        in run("policy", "test", expectations(tmp_path, "[{allow: {from: a/b, to: a/c}}]", head))[2]
    )
    (tmp_path / "two.yaml").write_text("a: 1\n---\nb: 2\n")
    assert "has 2 documents, not one" in run("policy", "test", tmp_path / "two.yaml")[2]


def why(*arguments: str, policy: str = "services.yaml") -> tuple[int, list[str], str]:
    code, out, err = run("why", *arguments, "--cluster", CLUSTER, POLICIES / policy)
    return code, [line for line in out.splitlines() if not line.startswith(" ")], err


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("shop/db:5432", "shop/cart → shop/db TCP 5432: allowed"),
        ("shop/db:22/TCP", "shop/cart → shop/db TCP 22: denied"),
        ("shop/db", "shop/cart → shop/db TCP 5432: allowed"),
        ("shop/sql", "shop/cart → 10.1.1.2 TCP 5432: allowed"),
        ("shop/sql:5432", "shop/cart → 10.1.1.2 TCP 5432: allowed"),
        ("10.1.1.2:5432", "shop/cart → 10.1.1.2 TCP 5432: allowed"),
        ("[fd00:1::53]:53/udp", "shop/cart → fd00:1::53 UDP 53: allowed"),
        ("203.0.113.1:53/17", "shop/cart → 203.0.113.1 UDP 53: allowed"),
    ],
)
def test_why(destination: str, says: str) -> None:
    assert why("shop/cart", destination) == (0, [says], "")


@pytest.mark.parametrize(
    ("pod", "destination", "says"),
    [
        ("shop/none", "10.1.1.2:80", "from 'pod:shop/none': there is no such pod that runs"),
        ("shop/cart", "db", "destination 'db': "),
        ("shop/cart", "10.1.1.2", "port None: TCP needs a port"),
        ("shop/cart", "fd00::1:80", "port None: TCP needs a port"),
        ("shop/cart", "shop/web", "pod shop/web: a port must be given (it names 8080/TCP, 9100/TCP)"),
        ("shop/cart", "office/desk", "pod office/desk: a port must be given (it names none)"),
        ("shop/cart", "shop/sql:80", "service shop/sql: has no port 80/TCP"),
        ("shop/cart", "shop/none:80", "to 'pod:shop/none': there is no such pod that runs"),
        ("shop/cart", "shop/db:80/tpc", "protocol 'tpc': is no protocol"),
    ],
)
def test_why_without_meaning(pod: str, destination: str, says: str) -> None:
    code, out, err = why(pod, destination)
    assert (code, out) == (2, [])
    assert says in err


def test_backends_that_are_judged_alike_are_said_once(tmp_path: Path) -> None:
    text = Path(CLUSTER).read_text().replace("addresses: [10.1.1.2]", "addresses: [10.1.1.2, 10.1.0.2, 10.1.0.3]")
    (tmp_path / "cluster.yaml").write_text(text)
    code, out, _ = run("why", "office/desk", "shop/sql", "--cluster", tmp_path, POLICIES / "log.yaml")
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "office/desk → 10.1.0.2 TCP 5432: allowed",
        "office/desk → 10.1.1.2 TCP 5432: denied",
    ]
    assert code == 0


def test_no_cluster_to_ask_is_said(tmp_path: Path) -> None:
    code, _, err = run("why", "a/b", "10.0.0.1:80", "--kubeconfig", tmp_path / "none")
    assert code == 2
    assert err.startswith(f"tortie why: no cluster to ask ({tmp_path / 'none'}): ")


def test_verdicts_are_json_lines_that_name_flows() -> None:
    code, out = diff(POLICIES / "kubernetes-both-selectors.yaml", before=(DENY,))
    (line,) = out.splitlines()
    assert code == 1
    assert set(json.loads(line)) == {"flow", "before", "after"}
