"""`make helm`: the pinned Helm, built once from the Go module proxy (2 minutes on two cores) and cached."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tortie.lab.binaries import CACHE, BinaryError, Progress, go_command, locked

MODULE = Path(__file__).parent / "helm"
COMMAND = "helm.sh/helm/v4/cmd/helm"


def find(say: Progress) -> Path:
    """From $TORTIE_LAB_BIN, else the cached build, made now if there is none. One on the PATH may be of any version."""
    given = os.environ.get("TORTIE_LAB_BIN")
    if given and (path := shutil.which("helm", path=given)):
        return Path(path)
    home = CACHE / "helm" / key()
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(home.parent / ".lock", say):
            if not home.exists():
                build(home, say)
    return home / "helm"


def key() -> str:
    """Name of the build in the cache: Helm's version and a digest of the versions of all that it is made from."""
    requirements = (MODULE / "go.mod").read_text()
    match = re.search(r"^\s*helm\.sh/helm/v4 (v\S+)", requirements, re.MULTILINE)
    if match is None:
        raise BinaryError(f"{MODULE}/go.mod requires no helm.sh/helm/v4")
    digest = hashlib.sha256(requirements.encode() + (MODULE / "go.sum").read_bytes())
    return f"{match[1]}-{digest.hexdigest()[:12]}"


def build(home: Path, say: Progress) -> None:
    go = go_command(say)
    say(f"building Helm {home.name} with {go} (2 minutes on two cores, once)")
    started = time.monotonic()
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    environment.setdefault("HOME", "/root")
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".build-") as temporary:
        place = Path(temporary) / "bin"
        command: list[str | Path] = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", place / "helm", COMMAND]
        result = subprocess.run(command, cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BinaryError(f"go build {COMMAND} failed: {result.stderr[-2000:]}")
        place.rename(home)
    say(f"built Helm in {time.monotonic() - started:.0f} s: {home}")


def main() -> int:
    try:
        program = find(lambda line: print(line, file=sys.stderr, flush=True))
    except BinaryError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{'helm':<24} {program}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
