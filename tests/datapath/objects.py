"""Object files for tests, of a few lines of C."""

from __future__ import annotations

import subprocess
from pathlib import Path

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
LICENSE = 'char _license[] SEC("license") = "GPL";'


def compiled(source: str, into: Path) -> None:
    machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
    command = ["clang", "-target", "bpf", "-O2", "-g", "-isystem", f"/usr/include/{machine}-linux-gnu", "-x", "c", "-c"]
    subprocess.run([*command, "-", "-o", into], input=HEAD + source + LICENSE, check=True, text=True)
