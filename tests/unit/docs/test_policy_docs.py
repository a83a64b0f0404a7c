"""What the documentation of policy shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ..cli.commands import EXAMPLES, POLICIES, run

DOCS = EXAMPLES.parent
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMANDS = [
    (command, output)
    for block in CONSOLE.findall((DOCS / "policy.md").read_text())
    for command, output in re.findall(r"^\$ tortie (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
TESTS = sorted(POLICIES.glob("*.test.yaml"))


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_commands_print_what_is_shown(monkeypatch: pytest.MonkeyPatch, command: str, output: str) -> None:
    monkeypatch.chdir(POLICIES)
    _, out, err = run(*shlex.split(command))
    assert (out, err) == (output, "")


def test_every_command_of_policy_is_shown() -> None:
    shown = {" ".join(shlex.split(command)[:2]) for command, _ in COMMANDS}
    assert {each for each in shown if each.startswith("policy")} == {"policy evaluate", "policy diff", "policy test"}
    assert {each.split()[0] for each in shown} == {"validate", "policy", "why"}


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_examples_are_as_expected(file: Path) -> None:
    code, out, err = run("policy", "test", file)
    assert code == 0, out
    assert err == ""


def test_every_example_has_a_test() -> None:
    policies = {path.name for path in POLICIES.glob("*.yaml")} - {path.name for path in TESTS} - {"cluster.yaml"}
    tested = {name for file in TESTS for name in yaml.safe_load(file.read_text())["manifests"]}
    assert policies == tested - {"cluster.yaml"}
    assert {path.name.replace(".test", "") for path in TESTS} == policies


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_every_test_fails_without_its_policies(file: Path, tmp_path: Path) -> None:
    """Each says something that is not so anyway; a staged policy alone changes nothing."""
    document = yaml.safe_load(file.read_text())
    kept = document["manifests"][:-1]
    document["manifests"] = [str(POLICIES / name) for name in kept]
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(document))
    assert run("policy", "test", tmp_path / "bare.yaml")[0] == (0 if file.name == "staged.test.yaml" else 1)


def test_the_test_that_is_shown_passes(tmp_path: Path) -> None:
    text = (DOCS / "policy-tests.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "shown.yaml"
    file.write_text(shown.replace("[cluster.yaml, ", f"[{POLICIES}/cluster.yaml, {POLICIES}/"))
    code, out, _ = run("policy", "test", file)
    assert (code, out) == (0, f"{file}: 5 as expected, 0 not\n")
