"""The plugin's binary and the network configuration that names it, where the container runtime finds them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tortie.nodeagent.files import replace_file

log = logging.getLogger(__name__)

NAME = "10-tortie.conflist"
VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
"""Of the CNI specification that our plugin speaks."""
PORTMAP = "portmap"
"""The reference plugin for host ports."""


async def install(plugin: Path, bin_dir: Path, conf_dir: Path, socket: Path) -> None:
    """The plugin, then the configuration that names it, each in one step. Raises OSError."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    conf_dir.mkdir(parents=True, exist_ok=True)
    replace_file(bin_dir / "tortie", plugin.read_bytes(), mode=0o755)
    written = configuration(socket, await spoken(bin_dir / PORTMAP))
    replace_file(conf_dir / NAME, json.dumps(written, indent=2).encode() + b"\n", mode=0o644)


async def spoken(plugin: Path) -> Sequence[str] | None:
    """Versions of the specification that another plugin speaks; None if it is not there or does not say."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            plugin, env={"CNI_COMMAND": "VERSION"}, stdin=pipe, stdout=pipe, stderr=pipe
        )
        output, _ = await process.communicate(b'{"cniVersion": "1.0.0"}')
        found: Sequence[str] = json.loads(output)["supportedVersions"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        log.error("plugin does not say its versions", extra={"plugin": str(plugin), "error": str(error)})
        return None
    return found


def configuration(socket: Path, portmap: Sequence[str] | None) -> dict[str, Any]:
    """The network configuration list. `portmap`: versions that the node's portmap speaks, None without one.

    `cniVersion` stays at 1.0.0 because older containerd refuses 1.1.0; newer runtimes choose from `cniVersions`, and
    then ask every plugin of the list for its STATUS, so that only what all of them speak may stand there.
    """
    plugins: list[dict[str, Any]] = [{"type": "tortie", "socket": str(socket)}]
    if portmap is not None:
        plugins.append({"type": PORTMAP, "snat": True, "capabilities": {"portMappings": True}})
    return {
        "name": "k8s-pod-network",
        "cniVersion": "1.0.0",
        "cniVersions": [version for version in VERSIONS if portmap is None or version in portmap],
        "plugins": plugins,
    }
