"""CNI as libcni does it: a network configuration list, executed plugin by plugin (CNI specification 1.1, libcni 1.3).

The files are libcni's too: the conflist in /etc/cni/net.d, plugins in /opt/cni/bin, and in /var/lib/cni/results one
file an attachment, because DEL and CHECK are given the result of ADD.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LATEST = (1, 1, 0)
"""Highest version of the specification that this speaks."""
INTERFACE = "eth0"
PATIENCE = 120.0
"""Seconds that a plugin may take (a kubelet's runtime-request-timeout)."""

log = logging.getLogger(__name__)

Document = dict[str, Any]


class CniError(Exception):
    """A plugin failed, or the configuration cannot be used. `code` is CNI's number, 0 where no plugin gave one."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Network:
    """A configuration list. `version` is the highest that both its author and this runtime know."""

    name: str
    version: str
    plugins: tuple[Document, ...]
    disable_check: bool = False
    disable_gc: bool = False

    def at_least(self, *version: int) -> bool:
        return numbers(self.version) >= version


@dataclass(frozen=True)
class Attachment:
    """A sandbox's interface, as plugins are told of it."""

    container_id: str
    netns: str
    args: tuple[tuple[str, str], ...] = ()
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """Capability → what the plugins that declare it find in `runtimeConfig`."""
    interface: str = INTERFACE


def load(directory: Path) -> Network:
    """The first configuration by name, as containerd chooses it. CniError says why there is none."""
    files = sorted(file for file in directory.glob("*") if file.suffix in (".conf", ".conflist", ".json"))
    if not files:
        raise CniError(f"cni plugin not initialized: no network config found in {directory}")
    try:
        return parse(json.loads(files[0].read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CniError(f"{files[0]}: {type(error).__name__}: {error}") from error


def parse(document: Document) -> Network:
    """A list, or (the older form) the configuration of a single plugin."""
    plugins = document.get("plugins") or [document]
    if not all(plugin.get("type") for plugin in plugins):
        raise ValueError("a plugin without a type")
    offered = [*document.get("cniVersions", ()), document.get("cniVersion", "0.1.0")]
    known = [version for version in offered if numbers(version) <= LATEST]
    if not known:
        raise ValueError(f"cniVersions {', '.join(offered)}: none is known here")
    return Network(
        name=document["name"],
        version=max(known, key=numbers),
        plugins=tuple(plugins),
        disable_check=bool(document.get("disableCheck")),
        disable_gc=bool(document.get("disableGC")),
    )


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def configuration(
    network: Network, plugin: Document, attachment: Attachment | None, extra: Mapping[str, Any]
) -> Document:
    """What a plugin reads from its stdin."""
    document = plugin | {"name": network.name, "cniVersion": network.version} | dict(extra)
    declared = plugin.get("capabilities", {})
    given = attachment.capabilities if attachment else {}
    if runtime := {name: given[name] for name, wanted in declared.items() if wanted and name in given}:
        document["runtimeConfig"] = runtime
    return document


class Cni:
    """The commands of CNI on this node."""

    def __init__(
        self,
        configurations: Path = Path("/etc/cni/net.d"),
        plugins: Path = Path("/opt/cni/bin"),
        cache: Path = Path("/var/lib/cni"),
    ) -> None:
        self._configurations = configurations
        self._plugins = plugins
        self._results = cache / "results"

    def network(self) -> Network:
        return load(self._configurations)

    async def status(self) -> None:
        """CniError if a plugin says that it cannot take an ADD now (or, before 1.1, if there is no configuration)."""
        network = self.network()
        if network.at_least(1, 1, 0):
            for plugin in network.plugins:
                await self._execute("STATUS", network, plugin)

    async def add(self, attachment: Attachment) -> Document:
        """The result of the last plugin. A failure leaves what earlier plugins did: `delete` undoes it."""
        network = self.network()
        result: Document | None = None
        for plugin in network.plugins:
            extra = {"prevResult": result} if result is not None else {}
            result = await self._execute("ADD", network, plugin, attachment, extra)
        if result is None:
            raise CniError(f"network {network.name}: no plugin gave a result")
        self._remember(network, attachment, result)
        return result

    async def delete(self, attachment: Attachment) -> None:
        await self._delete(self.network(), attachment)

    async def check(self, attachment: Attachment) -> None:
        network = self.network()
        result = self._result(network, attachment)
        if network.disable_check or result is None or not network.at_least(0, 4, 0):
            return
        for plugin in network.plugins:
            await self._execute("CHECK", network, plugin, attachment, {"prevResult": result})

    async def collect_garbage(self, valid: Collection[tuple[str, str]]) -> None:
        """Delete remembered attachments that are not among `valid` (container id, interface); tell the plugins.

        Every step is tried; the first failure is raised at the end.
        """
        network = self.network()
        if network.disable_gc:
            return
        failures: list[CniError] = []
        for stale in self._remembered(network):
            if (stale.container_id, stale.interface) not in valid:
                try:
                    await self._delete(network, stale)
                except CniError as error:
                    failures.append(error)
        if network.at_least(1, 1, 0):
            attachments = [{"containerID": container, "ifname": interface} for container, interface in sorted(valid)]
            # libcni gives both names, since the first versions of the specification had the other one.
            extra = {"cni.dev/valid-attachments": attachments, "cni.dev/attachments": attachments}
            for plugin in network.plugins:
                try:
                    await self._execute("GC", network, plugin, None, extra)
                except CniError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _delete(self, network: Network, attachment: Attachment) -> None:
        result = self._result(network, attachment)
        extra = {"prevResult": result} if result is not None and network.at_least(0, 4, 0) else {}
        for plugin in reversed(network.plugins):
            await self._execute("DEL", network, plugin, attachment, extra)
        self._path(network.name, attachment).unlink(missing_ok=True)

    async def _execute(
        self,
        command: str,
        network: Network,
        plugin: Document,
        attachment: Attachment | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Document | None:
        name = plugin["type"]
        program = self._plugins / name
        if not os.access(program, os.X_OK):
            raise CniError(f"failed to find plugin {name!r} in {self._plugins}")
        text = json.dumps(configuration(network, plugin, attachment, extra or {})).encode()
        environment = os.environ | {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id if attachment else "",
            "CNI_NETNS": attachment.netns if attachment else "",
            "CNI_IFNAME": attachment.interface if attachment else "",
            "CNI_ARGS": _joined(attachment.args if attachment else ()),
            "CNI_PATH": str(self._plugins),
        }
        began = time.monotonic()
        code, out, err = await _run(program, text, environment)
        if attachment is not None:
            taken = round((time.monotonic() - began) * 1000, 1)
            about = {"plugin": name, "command": command, "container": attachment.container_id}
            log.info("plugin ran", extra={**about, "ms": taken, "code": code})
        if code:
            raise _failure(f"plugin type={name!r} failed ({command.lower()})", out, err)
        if not out.strip():
            return None
        try:
            result: Document = json.loads(out)
        except ValueError as error:
            raise CniError(f"plugin type={name!r} ({command.lower()}) printed no JSON: {out[:200]!r}") from error
        return result

    # --- results of ADD on disk, in libcni's format -------------------------------------------------------------

    def _path(self, network: str, attachment: Attachment) -> Path:
        return self._results / f"{network}-{attachment.container_id}-{attachment.interface}"

    def _remember(self, network: Network, attachment: Attachment, result: Document) -> None:
        config = json.dumps({"name": network.name, "cniVersion": network.version, "plugins": network.plugins})
        document = {
            "kind": "cniCacheV1",
            "containerId": attachment.container_id,
            "config": base64.b64encode(config.encode()).decode(),
            "ifName": attachment.interface,
            "networkName": network.name,
            "netns": attachment.netns,
            "cniArgs": attachment.args,
            "capabilityArgs": attachment.capabilities,
            "result": result,
        }
        path = self._path(network.name, attachment)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    def _result(self, network: Network, attachment: Attachment) -> Document | None:
        """What ADD gave, in the version that is spoken now; None if it is not known or not legible."""
        try:
            result: Document = json.loads(self._path(network.name, attachment).read_bytes())["result"]
        except (OSError, ValueError, KeyError):
            return None
        return result | {"cniVersion": network.version}

    def _remembered(self, network: Network) -> Iterable[Attachment]:
        for file in sorted(self._results.glob(f"{network.name}-*")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                document = json.loads(file.read_bytes())
                if document["networkName"] == network.name:
                    yield Attachment(
                        container_id=document["containerId"],
                        netns=document["netns"],
                        args=tuple((name, value) for name, value in document["cniArgs"]),
                        capabilities=document["capabilityArgs"],
                        interface=document["ifName"],
                    )


def _joined(args: Iterable[tuple[str, str]]) -> str:
    return ";".join(f"{name}={value}" for name, value in args)


async def _run(program: Path, text: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr. Whoever is no longer interested (cancellation) or patient kills the plugin."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(text)
    except TimeoutError:
        raise CniError(f"plugin {program.name} did not end within {PATIENCE:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out, err


def _failure(what: str, out: bytes, err: bytes) -> CniError:
    try:
        said = json.loads(out)
        message = ": ".join(part for part in (said.get("msg"), said.get("details")) if part)
        return CniError(f"{what}: {message}", code=int(said.get("code", 0)))
    except (ValueError, AttributeError):
        said = (err or out).decode(errors="replace").strip()[-500:]
        return CniError(f"{what}: {said or 'no error message'}")
