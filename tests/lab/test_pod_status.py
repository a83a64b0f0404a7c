"""What the kubelet stand-in makes of the states of containers. No root, no cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tortie.lab.kubelet.command import CommandError, Place, expand, launch
from tortie.lab.kubelet.manifest import (
    Container,
    EnvironmentSource,
    EnvironmentVariable,
    FieldReference,
    Pod,
    PodMetadata,
    Port,
    Spec,
)
from tortie.lab.kubelet.records import Ended
from tortie.lab.kubelet.status import ContainerView, PodView, Running, State, Waiting, pod_status

WAITING = Waiting("ContainerCreating")
RUNNING = Running("r", 100.0)
GOOD = Ended(run="g", exit_code=0, reason="Completed", started=100.0, finished=101.0)
BAD = Ended(run="b", exit_code=1, reason="Error", started=100.0, finished=101.0)
CRASHED = (Waiting("CrashLoopBackOff"), BAD)


def view(policy: str, *states: State | tuple[State, Ended], init: State | None = None, **more: Any) -> PodView:
    containers = [
        ContainerView(Container(name=f"c{i}"), *(state, False, False, 0, None) if not isinstance(state, tuple) else
                      (state[0], False, False, 1, state[1]))
        for i, state in enumerate(states)
    ]  # fmt: skip
    spec = Spec(restart_policy=policy, containers=tuple(container.spec for container in containers))
    pod = Pod(metadata=PodMetadata(name="web", namespace="default"), spec=spec)
    first = [ContainerView(Container(name="init"), init)] if init else []
    return PodView(pod, ["192.0.2.1"], 99.0, containers=containers, init_containers=first, **more)


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        ("Always", [WAITING], "Pending"),
        ("Always", [WAITING, RUNNING], "Pending"),
        ("Always", [RUNNING, RUNNING], "Running"),
        ("Always", [CRASHED], "Running"),
        ("Always", [GOOD], "Running"),
        ("OnFailure", [GOOD], "Succeeded"),
        ("OnFailure", [BAD], "Running"),
        ("OnFailure", [GOOD, BAD], "Running"),
        ("OnFailure", [GOOD, RUNNING], "Running"),
        ("Never", [GOOD, GOOD], "Succeeded"),
        ("Never", [GOOD, BAD], "Failed"),
        ("Never", [BAD, RUNNING], "Running"),
    ],
)
def test_phases_follow_from_states_and_policy(policy: str, states: list[State], phase: str) -> None:
    assert pod_status(view(policy, *states), 200.0)["phase"] == phase


@pytest.mark.parametrize(
    ("policy", "init", "phase"),
    [("Always", WAITING, "Pending"), ("Always", BAD, "Pending"), ("Never", BAD, "Failed"), ("Never", GOOD, "Pending")],
)
def test_init_containers_hold_the_pod_in_pending(policy: str, init: State, phase: str) -> None:
    assert pod_status(view(policy, Waiting("PodInitializing"), init=init), 200.0)["phase"] == phase


@pytest.mark.parametrize(
    ("states", "phase"), [([GOOD], "Succeeded"), ([GOOD, BAD], "Failed"), ([WAITING], "Failed"), ([CRASHED], "Failed")]
)
def test_a_pod_that_was_deleted_has_ended(states: list[State], phase: str) -> None:
    assert pod_status(view("Always", *states, over=True), 200.0)["phase"] == phase


def test_conditions_keep_the_time_of_their_last_change() -> None:
    before = {"Ready": ("False", "2026-01-01T00:00:00Z"), "Initialized": ("False", "2026-01-01T00:00:00Z")}
    status = pod_status(view("Always", RUNNING, before=before), 0.0)
    times = {each["type"]: each["lastTransitionTime"] for each in status["conditions"]}
    assert times["Ready"] == "2026-01-01T00:00:00Z"
    assert times["Initialized"] == times["PodScheduled"] == "1970-01-01T00:00:00Z"


def test_addresses_replace_the_ones_before() -> None:
    status = pod_status(view("Always", RUNNING, sandboxed=True, ips=("10.0.0.1", "fd00::1")), 0.0)
    assert status["podIP"] == "10.0.0.1"
    assert status["podIPs"] == [{"$patch": "replace"}, {"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert "podIPs" not in pod_status(view("Always", RUNNING), 0.0)


PLACE = Place("node1", ["192.0.2.1"], ["10.0.0.1"])
WEB = Pod(metadata=PodMetadata(name="web", namespace="default"))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)b", "1b"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$A ${A} $", "$A ${A} $"), ("$$$(A)", "$1")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_a_command_that_is_not_here_is_an_echo_server_if_the_container_has_ports() -> None:
    command, ports = ("/app/server",), (Port(container_port=80), Port(container_port=53, protocol="UDP"))
    what = launch(WEB, Container(name="c", command=command, ports=ports), PLACE)
    assert what.echo
    assert what.argv[-3:] == ["web", "tcp:80", "udp:53"]
    with pytest.raises(CommandError, match="/app/server"):
        launch(WEB, Container(name="c", command=command), PLACE)


def test_a_field_that_is_not_known_is_named() -> None:
    variable = EnvironmentVariable(name="X", value_from=EnvironmentSource(field_ref=FieldReference(field_path="a.b")))
    with pytest.raises(CommandError, match=r"env X: fieldPath 'a\.b'"):
        launch(WEB, Container(name="c", command=("true",), env=(variable,)), PLACE)
