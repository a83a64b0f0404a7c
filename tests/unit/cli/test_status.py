"""`tortie policy status`: what is said of a policy, from the objects that there are."""

from __future__ import annotations

from typing import Any

from tortie.api.compiled import Source
from tortie.api.internal import NodeReport, PolicyStatus, PolicyStatusSpec, PolicyStatusStatus, compiled_name
from tortie.api.meta import Condition, Metadata
from tortie.cli.status import STATUSES, Lines, Named, Objects, Standing, changed, reasons, standings, taken
from tortie.kube.informer import Bookmark, Gone, Put, Replaced

from .commands import run

VALID = ("True", "Valid", "")
ENFORCED = ("True", "Enforced", "in force on 3 of 3 nodes")


def policy(name: str, namespace: str = "shop", generation: int = 1, uid: str = "u1") -> Named:
    return Named(metadata=Metadata(name=name, namespace=namespace, generation=generation, uid=uid))


def told(
    kind: str,
    name: str,
    namespace: str = "shop",
    accepted: tuple[str, str, str] = VALID,
    enforced: tuple[str, str, str] = ENFORCED,
    nodes: int = 3,
    on: int = 3,
    **reports: tuple[NodeReport, ...],
) -> PolicyStatus:
    conditions = tuple(
        Condition(type=kind, status=status, reason=reason, message=message)
        for kind, (status, reason, message) in (("Accepted", accepted), ("Enforced", enforced))
    )
    return PolicyStatus(
        metadata=Metadata(name=compiled_name(kind, name, namespace)),
        spec=PolicyStatusSpec(source=Source(kind=kind, namespace=namespace, name=name, uid="u1", generation=1)),
        status=PolicyStatusStatus(conditions=conditions, nodes=nodes, enforced=on, **reports),
    )


def objects(*statuses: PolicyStatus, **policies: Named) -> Objects:
    """`policies` by kind, one of each."""
    found: Objects = {kind: {each.metadata.key: each} for kind, each in policies.items()}
    return found | {STATUSES: {each.metadata.name: each for each in statuses}}


def only(of: Objects) -> Standing:
    (found,) = standings(of).values()
    return found


def text(of: Objects) -> list[str]:
    return list(Lines().lines(list(standings(of).values())))


def test_a_policy_in_force_is_one_line() -> None:
    assert text(objects(told("knp", "frontend"), knp=policy("frontend"))) == [
        "NAMESPACE  NAME      KIND                     ACCEPTED  ENFORCED  ON",
        "shop       frontend  KubernetesNetworkPolicy  True      True      3/3",
    ]


def test_without_policies_there_are_the_titles() -> None:
    assert text(objects()) == ["NAMESPACE  NAME  KIND  ACCEPTED  ENFORCED  ON"]


def test_who_fails_waits_or_is_unreachable_is_named_with_the_reason() -> None:
    status = told(
        "np",
        "db",
        enforced=("False", "Failed", "in force on 1 of 24 nodes; …"),
        nodes=24,
        on=1,
        failed=(NodeReport(node="node2", reason="policy/shop/db-0: out of memory"),),
        waiting=(NodeReport(node="node3", reason="its agent has not reported yet"),),
        unreachable=(NodeReport(node="node4", reason="NotReady"),),
    )
    assert text(objects(status, np=policy("db")))[1:] == [
        "shop       db    NetworkPolicy  True      False     1/24",
        "    failed: node2: policy/shop/db-0: out of memory",
        "    waiting: node3: its agent has not reported yet",
        "    unreachable: node4: NotReady",
        "    and 21 more nodes",
    ]


def test_what_was_not_understood_is_said() -> None:
    message = "spec.ingress[0].source.selector 'a ==': ends too early"
    found = only(objects(told("np", "db", accepted=("False", "Invalid", message)), np=policy("db")))
    assert list(reasons(found)) == [f"accepted: Invalid: {message}"]


def test_a_policy_that_is_in_force_nowhere_for_a_reason_of_its_own_says_which() -> None:
    staged = ("False", "Staged", "a staged policy is never enforced")
    found = only(objects(told("snp", "db", enforced=staged, nodes=0, on=0), snp=policy("db")))
    assert list(reasons(found)) == ["enforced: Staged: a staged policy is never enforced"]


def test_a_policy_that_the_operator_has_not_seen_is_listed_all_the_same() -> None:
    found = only(objects(knp=policy("db")))
    assert (found.accepted.status, found.enforced.status, found.on, found.of) == ("Unknown", "Unknown", 0, 0)
    assert list(reasons(found)) == ["accepted: NotSeen: the operator has not told of this version yet"]


def test_a_status_of_an_earlier_version_or_of_a_namesake_before_is_not_the_policys() -> None:
    for newer in (policy("db", generation=2), policy("db", uid="u2")):
        found = only(objects(told("knp", "db"), knp=newer))
        assert (found.accepted.reason, found.enforced.status, found.on, found.of) == ("NotSeen", "Unknown", 0, 3)


def test_a_deleted_policy_is_listed_until_its_status_goes() -> None:
    found = only(objects(told("gnp", "guard", "", on=2)))
    assert (found.kind, found.name, found.enforced.reason, found.on) == ("GlobalNetworkPolicy", "guard", "Deleted", 2)


def test_profiles_are_no_policies() -> None:
    assert not standings(objects(told("kns", "shop", "")))


def test_global_policies_come_first_and_a_namespace_leaves_them_and_others_out() -> None:
    shop, office, guard = told("knp", "a"), told("knp", "a", "office"), told("gnp", "z", "")
    assert [each.namespace for each in standings(objects(shop, office, guard)).values()] == ["", "office", "shop"]
    assert [each.namespace for each in standings(objects(shop, office, guard), "office").values()] == ["office"]


def test_a_watch_shows_what_has_changed_and_what_is_gone() -> None:
    waits = told("knp", "b", on=2)
    before = standings(objects(told("knp", "a"), waits))
    now = standings(objects(told("knp", "b"), told("knp", "c")))
    assert [(each.name, each.on, each.enforced.reason) for each in changed(before, now)] == [
        ("a", 0, "Gone"),
        ("b", 3, "Deleted"),
        ("c", 3, "Deleted"),
    ]
    assert not list(changed(now, now))


def test_columns_of_a_watch_stay_where_they_are_until_something_is_wider() -> None:
    lines = Lines()

    def shown(name: str) -> list[str]:
        return list(lines.lines([only(objects(told("knp", name), knp=policy(name)))]))

    assert shown("frontend")[1].index("Kubernetes") == shown("db")[0].index("Kubernetes") == 21
    assert shown("a-longer-name")[0].index("Kubernetes") == shown("db")[0].index("Kubernetes") == 26


def test_changes_are_taken_as_the_informer_tells_them() -> None:
    known: dict[str, Any] = {"shop/old": policy("old")}
    taken(known, Replaced({"shop/db": policy("db")}, 5, rewound=False))
    taken(known, Put("shop/web", policy("web"), 6))
    taken(known, Bookmark(7))
    assert set(known) == {"shop/db", "shop/web"}
    taken(known, Gone("shop/db", None, 8))
    assert set(known) == {"shop/web"}


def test_a_cluster_that_does_not_answer_is_an_error_that_names_it(tmp_path: Any) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text("""
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
""")
    for options in ((), ("-w",)):
        code, out, err = run("policy", "status", "--kubeconfig", config, *options)
        assert (code, out) == (2, "")
        assert f"no cluster to ask ({config})" in err
