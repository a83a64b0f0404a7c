"""Fixtures of tests that need a real API server or a whole cluster. One of each serves a whole session.

They are brought up by `asyncio.run`, and a Lab holds nothing of an event loop, so tests of any loop may use them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tortie.lab.lab import RUN, Lab

API_SERVER_ALONE = ("controller-manager", "scheduler", "operator")


@pytest.fixture(scope="session")
def controlplane() -> Iterator[Lab]:
    """etcd and kube-apiserver without nodes, controllers or CRDs; its `kubeconfig` is an administrator's."""
    yield from _session_lab("api", nodes=0, without=API_SERVER_ALONE)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A whole cluster of three nodes."""
    yield from _session_lab("lab", nodes=3)


def _session_lab(purpose: str, nodes: int, without: tuple[str, ...] = ()) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    _sweep()
    lab = Lab(f"test-{os.getpid()}-{purpose}", print)
    try:
        asyncio.run(lab.up(nodes, without=without))
        yield lab
    finally:
        asyncio.run(lab.down())


def _sweep() -> None:
    """Remove the labs of test sessions that were killed before they could."""
    for directory in RUN.glob("test-*-*"):
        if not Path("/proc", directory.name.split("-")[1]).exists():
            asyncio.run(Lab(directory.name).down())
