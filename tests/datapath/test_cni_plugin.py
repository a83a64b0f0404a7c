"""The plugin by itself: what it says when the agent is not there, does not answer, or dies over the answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .runtime import PLUGIN, REPOSITORY

pytestmark = pytest.mark.timeout(120)

VERSIONS = ["0.4.0", "1.0.0", "1.1.0"]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run(["make", "-s", "-C", REPOSITORY / "nodeagent" / "cni"], check=True)


def run(command: str | None, stdin: bytes, **variables: str) -> tuple[int, str]:
    environment = variables | ({"CNI_COMMAND": command} if command is not None else {})
    done = subprocess.run([PLUGIN], input=stdin, capture_output=True, env=environment)
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


def config(path: Path, **other: Any) -> bytes:
    return json.dumps({"cniVersion": "1.1.0", "name": "n", "type": "tortie", "socket": str(path)} | other).encode()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], Path]]:
    """A stand-in for the agent: does with each connection what it is told to."""
    servers: list[socket.socket] = []

    def start(behave: Callable[[socket.socket], None]) -> Path:
        path = tmp_path / "cni.sock"
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen()
        servers.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            behave(connection)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return path

    yield start
    for server in servers:
        server.close()


def whole(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def test_version_needs_no_agent() -> None:
    status, printed = run("VERSION", b'{"cniVersion":"1.0.0"}')
    assert status == 0
    assert json.loads(printed) == {"cniVersion": "1.1.0", "supportedVersions": VERSIONS}


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)  # fmt: skip
@pytest.mark.parametrize("left", ["nothing", "a socket that nobody listens on"])
def test_without_an_agent_it_says_so(tmp_path: Path, command: str, code: int, left: str) -> None:
    path = tmp_path / "cni.sock"
    if left != "nothing":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    status, printed = run(command, config(path), CNI_NETNS="")
    assert status == 1
    answer = json.loads(printed)
    assert answer["code"] == code
    assert str(path) in answer["msg"]
    # containerd takes a DEL with such a message for done, and never asks again.
    assert "not found" not in printed
    assert "no such file or directory" not in printed


def test_the_default_socket_is_in_run(tmp_path: Path) -> None:
    assert "nobody listens on /run/tortie/cni.sock" in run("STATUS", b"{}")[1]
    assert "/run/tortie/cni.sock" in run("STATUS", b"no json")[1]


def test_by_hand_it_explains_itself() -> None:
    status, printed = run(None, b"")
    assert status == 1
    assert json.loads(printed)["code"] == 4
    assert "CNI_COMMAND" in json.loads(printed)["msg"]


def test_an_agent_that_dies_over_the_answer_is_to_be_asked_again(
    listening: Callable[[Callable[[socket.socket], None]], Path],
) -> None:
    def read_and_die(connection: socket.socket) -> None:
        whole(connection)

    status, printed = run("ADD", config(listening(read_and_die)))
    assert (status, json.loads(printed)["code"]) == (1, 11)


def test_an_agent_that_dies_over_the_request_is_to_be_asked_again(
    listening: Callable[[Callable[[socket.socket], None]], Path],
) -> None:
    big = config(listening(lambda connection: None), padding="x" * 4_000_000)
    status, printed = run("ADD", big)
    assert (status, json.loads(printed)["code"]) == (1, 11)


def test_an_agent_that_hangs_is_not_waited_for_forever(
    listening: Callable[[Callable[[socket.socket], None]], Path],
) -> None:
    done = threading.Event()
    path = listening(lambda connection: done.wait() and None)
    began = time.monotonic()
    status, printed = run("ADD", config(path, policySetupTimeoutSeconds=0.5))
    done.set()
    assert (status, json.loads(printed)["code"]) == (1, 11)
    assert 10.5 < time.monotonic() - began < 12.5


def test_request_and_answer_are_carried_as_they_are(
    listening: Callable[[Callable[[socket.socket], None]], Path], tmp_path: Path
) -> None:
    heard = []
    answer = b"{" + b"y" * 500_000 + "é\0}".encode()

    def behave(connection: socket.socket) -> None:
        data, files, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        heard.append(os.readlink(f"/proc/self/fd/{files[0]}"))
        os.close(files[0])
        heard.append(data + whole(connection))
        connection.sendall(b"0" + answer)

    sandbox = tmp_path / "netns"
    sandbox.touch()
    stdin = config(listening(behave), padding="é\\\"'" * 100_000)
    environment = {"CNI_COMMAND": "ADD", "CNI_NETNS": str(sandbox), "CNI_ARGS": "A=1;B=", "CNI_IFNAME": ""}
    done = subprocess.run([PLUGIN], input=stdin, capture_output=True, env=environment | {"SECRET": "no"})
    assert (done.returncode, done.stdout) == (0, answer)
    variables, _, rest = heard[1].partition(b"\0\0")
    assert heard[0] == str(sandbox)
    assert dict(each.split(b"=", 1) for each in variables.split(b"\0")) == {
        key.encode(): value.encode() for key, value in environment.items()
    }
    assert rest == stdin


def test_a_namespace_that_cannot_be_opened_is_told(
    listening: Callable[[Callable[[socket.socket], None]], Path],
) -> None:
    heard = []

    def behave(connection: socket.socket) -> None:
        data, files, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        heard.extend([data, files])
        connection.sendall(b"1{}")

    assert run("DEL", config(listening(behave)), CNI_NETNS="/nowhere") == (1, "{}")
    assert b"NETNS_ERROR=No such file or directory\0\0" in heard[0]
    assert heard[1] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("socket"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text().filter(lambda key: key != "socket"), JSON),
    st.dictionaries(st.text().filter(lambda key: key != "socket"), JSON),
    st.from_regex(r"/[a-zA-Z0-9_./-]{1,60}", fullmatch=True),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
)
def test_only_the_outermost_socket_counts(
    before: dict[str, Any], after: dict[str, Any], path: str, indent: int | None, escape: bool
) -> None:
    """The plugin's own reading of JSON, against Python's."""
    document = before | {"socket": path} | {key: value for key, value in after.items() if key not in before}
    text = json.dumps(document, indent=indent, ensure_ascii=escape)
    assert json.loads(text)["socket"] == path
    _, printed = run("STATUS", text.encode(errors="surrogatepass"))
    assert json.loads(printed)["msg"].endswith(f"nobody listens on {path}")


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.text(alphabet='{}[]":,\\socket /x', max_size=60).map(str.encode))
def test_no_input_breaks_it(stdin: bytes) -> None:
    status, printed = run("STATUS", stdin)
    assert status == 1
    assert json.loads(printed)["code"] == 50
