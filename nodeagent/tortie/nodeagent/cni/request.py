"""What a runtime asks: the CNI_* variables and the network configuration on the plugin's stdin. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from tortie.api.meta import Record
from tortie.nodeagent.cni.errors import CniError, Code
from tortie.nodeagent.cni.result import Result

Command = Literal["ADD", "DEL", "CHECK", "GC", "STATUS"]
COMMANDS: tuple[str, ...] = get_args(Command)
VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
SINCE_1_1 = ("GC", "STATUS")
POLICY_MOST = 90.0
"""Seconds: with the time for the addresses still less than the kubelet's two minutes."""

CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}")
IFNAME = re.compile(r"(?!\.{1,2}$)[^/:\s\0]{1,15}")
POD_PART = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Attachment(Record):
    container_id: str = msgspec.field(name="containerID")
    ifname: str


class Config(Record):
    """The network configuration as libcni hands it to a plugin."""

    cni_version: str = ""
    name: str = ""
    dns: dict[str, Any] = {}
    prev_result: Result | None = None
    policy_setup_timeout_seconds: float = 5.0
    """How long ADD may wait for the endpoint to be OPEN once it is attached."""
    valid_attachments: tuple[Attachment, ...] | msgspec.UnsetType | None = msgspec.field(
        name="cni.dev/valid-attachments", default=msgspec.UNSET
    )
    """Of GC. libcni writes null for none."""


@dataclass(frozen=True)
class Request:
    """One call. Strings are empty where the command does not need them and they were not given."""

    command: Command
    container_id: str
    ifname: str
    netns: str
    """Path of the sandbox's network namespace, as the runtime sees it."""
    namespace: str
    name: str
    uid: str
    config: Config


def decode(environment: dict[str, str], stdin: bytes) -> Request:
    """Raises CniError."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise invalid("CNI_COMMAND", command, f"must be one of {' '.join(COMMANDS)} VERSION")
    config = decode_config(stdin)
    if config.cni_version not in VERSIONS:
        raise CniError(
            Code.INCOMPATIBLE_VERSION, f"cniVersion {config.cni_version!r} is not one of {' '.join(VERSIONS)}"
        )
    if command in SINCE_1_1 and config.cni_version != "1.1.0":
        raise CniError(Code.INCOMPATIBLE_VERSION, f"cniVersion {config.cni_version} has no {command}: that needs 1.1.0")
    pod = arguments(environment.get("CNI_ARGS", ""))
    request = Request(
        command=command,  # type: ignore[arg-type]
        container_id=environment.get("CNI_CONTAINERID", ""),
        ifname=environment.get("CNI_IFNAME", ""),
        netns=environment.get("CNI_NETNS", ""),
        namespace=pod.get("K8S_POD_NAMESPACE", ""),
        name=pod.get("K8S_POD_NAME", ""),
        uid=pod.get("K8S_POD_UID", ""),
        config=config,
    )
    if command in ("ADD", "DEL", "CHECK"):
        validate(request, environment)
    return request


def validate(request: Request, environment: dict[str, str]) -> None:
    """Of the commands that are about one sandbox. DEL makes do with what it is given."""
    if not CONTAINER_ID.fullmatch(request.container_id):
        raise invalid("CNI_CONTAINERID", request.container_id, "must be up to 200 letters, digits, _ . -")
    if not IFNAME.fullmatch(request.ifname):
        raise invalid("CNI_IFNAME", request.ifname, "must be an interface name of up to 15 characters")
    if request.command == "DEL":
        return
    if not request.netns:
        raise invalid("CNI_NETNS", "", "must be the path of the sandbox's network namespace")
    for key, value in (("K8S_POD_NAMESPACE", request.namespace), ("K8S_POD_NAME", request.name)):
        if not POD_PART.fullmatch(value):
            raise invalid("CNI_ARGS", environment.get("CNI_ARGS", ""), f"{key} must name the pod")
    if request.command == "CHECK" and request.config.prev_result is None:
        raise CniError(Code.INVALID_CONFIG, "prevResult is missing: CHECK compares with it")


def decode_config(stdin: bytes) -> Config:
    try:
        config = msgspec.json.decode(stdin, type=Config)
    except msgspec.ValidationError as error:
        raise CniError(Code.INVALID_CONFIG, f"network configuration: {error}{value_at(stdin, str(error))}") from None
    except msgspec.DecodeError as error:
        raise CniError(Code.UNDECODABLE, f"network configuration: {error}") from None
    seconds = config.policy_setup_timeout_seconds
    if not 0 <= seconds <= POLICY_MOST:
        raise CniError(
            Code.INVALID_CONFIG, f"policySetupTimeoutSeconds {seconds:g} must be between 0 and {POLICY_MOST:g}"
        )
    return config


def value_at(stdin: bytes, complaint: str) -> str:
    """The value of the outermost field that msgspec complains of (`… - at `$.dns.x``), which it does not print."""
    found = re.search(r"`\$\.([^.\[`]+)", complaint)
    if not found:
        return ""
    value = msgspec.json.decode(stdin).get(found[1])
    return f" = {msgspec.json.encode(value).decode()[:200]}"


def arguments(text: str) -> dict[str, str]:
    """CNI_ARGS, `KEY=value;KEY=value`."""
    pairs = (part.partition("=") for part in text.split(";") if part)
    return {key: value for key, _, value in pairs}


def invalid(variable: str, value: str, rule: str) -> CniError:
    return CniError(Code.INVALID_ENVIRONMENT, f"{variable}={value!r}: {rule}")
