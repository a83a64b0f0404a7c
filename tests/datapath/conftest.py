"""Tests against this machine's kernel: root, in network namespaces of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "/tests/datapath/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def own_network() -> Iterator[None]:
    """This thread (and what it starts) in a fresh network namespace, which is gone afterwards."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if LIBC.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        if LIBC.setns(home, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(home)


@pytest.fixture(scope="session")
def bpf_dir() -> Path:
    """The object files, as `make` builds them."""
    subprocess.run(["make", "-s", "-C", REPOSITORY / "nodeagent" / "bpf"], check=True)
    return REPOSITORY / "build" / "bpf"


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of the test's own."""
    folder = tmp_path / "bpffs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
