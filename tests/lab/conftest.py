"""Tests of and on whole clusters: root, and the control plane's binaries (`make controlplane`)."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator

import pytest

from tortie.lab.lab import Lab
from tortie.lab.testing import controlplane, lab

from .cluster import Corner

__all__ = ["controlplane", "corner", "lab"]


@pytest.fixture
async def corner(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Corner]:
    """A namespace named after the test."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    name = f"{words[:50].strip('-')}-{secrets.token_hex(2)}"
    await lab.kubectl("create", "namespace", name)
    await lab.kubectl("wait", "--for=create", "-n", name, "serviceaccount/default", "--timeout=20s")
    yield Corner(lab, name)
    await lab.kubectl("delete", "namespace", name, "--wait=false")
