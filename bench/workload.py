"""Pods for benchmarks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tortie.lab import Lab

NAMESPACE = "bench"


def manifest(name: str, node: str) -> dict[str, Any]:
    """A pod that the scheduler does not see: what is measured begins with its node known."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "bench/echo:1", "ports": [{"containerPort": 9000}]}],
        },
    }


@asynccontextmanager
async def namespace(lab: Lab) -> AsyncIterator[None]:
    await lab.kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        await lab.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=120s")


@asynccontextmanager
async def pod(lab: Lab, name: str, node: str) -> AsyncIterator[str]:
    """Its IPv4 address, once it is ready."""
    await lab.kubectl("apply", "-f", "-", text=json.dumps(manifest(name, node)))
    try:
        await lab.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        yield await lab.kubectl("-n", NAMESPACE, "get", f"pod/{name}", "-o", "jsonpath={.status.podIP}")
    finally:
        await lab.kubectl("-n", NAMESPACE, "delete", f"pod/{name}", "--wait=true", "--timeout=60s")
