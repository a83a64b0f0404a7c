"""The control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler with RBAC and TLS on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tortie.lab import pki
from tortie.lab.errors import LabError
from tortie.lab.machine import Machine
from tortie.lab.plan import API_PORT, API_SERVICE, SERVICE_CIDRS, Plan

ETCD, APISERVER, CONTROLLERS, SCHEDULER = "etcd", "apiserver", "controller-manager", "scheduler"
"""What people call the parts; all but etcd's programs have `kube-` before it."""

GRACE_PERIOD = "20s"
"""Without a lease renewal for so long a node is NotReady (Kubernetes: 50 s; shorter, since tests wait for it)."""


@dataclass(frozen=True)
class Secrets:
    """The keys and certificates in a lab's `pki` directory, issued once."""

    authority: pki.Authority
    front_proxy: pki.Authority
    serving: pki.Pair
    front_proxy_client: pki.Pair
    service_accounts: pki.Pair
    admin: pki.Pair


def issue(plan: Plan, directory: Path) -> Secrets:
    authority = pki.Authority(directory, "ca")
    front_proxy = pki.Authority(directory, "front-proxy-ca")
    hosts = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    hosts += ["kubernetes.default.svc.cluster.local", "127.0.0.1", "::1", *API_SERVICE]
    hosts += [str(plan.control.v4.ip), str(plan.control.v6.ip), str(plan.control_end.ip)]
    return Secrets(
        authority,
        front_proxy,
        serving=authority.issue("apiserver", "kube-apiserver", hosts=hosts),
        front_proxy_client=front_proxy.issue("front-proxy-client", "front-proxy-client"),
        service_accounts=pki.signing_key(directory, "service-accounts"),
        admin=authority.issue("admin", "kubernetes-admin", ["system:masters"]),
    )


def commands(
    plan: Plan, secrets: Secrets, programs: Mapping[str, Path], machine: Machine
) -> dict[str, list[str | Path]]:
    """The command line of each part, in the order in which they are started."""
    configs = machine.directory / "kubeconfig"
    return {
        ETCD: [programs[ETCD], *etcd_flags(machine.directory / "disk" / "etcd")],
        APISERVER: [programs["kube-apiserver"], *apiserver_flags(plan, secrets)],
        CONTROLLERS: [programs["kube-controller-manager"], *controller_flags(secrets, configs / CONTROLLERS)],
        SCHEDULER: [programs["kube-scheduler"], *scheduler_flags(configs / SCHEDULER)],
    }


def write_kubeconfigs(secrets: Secrets, machine: Machine) -> None:
    for name in (CONTROLLERS, SCHEDULER):
        client = secrets.authority.issue(name, f"system:kube-{name}")
        path = machine.directory / "kubeconfig" / name
        pki.write_kubeconfig(path, f"https://127.0.0.1:{API_PORT}", secrets.authority.pair.certificate, client)


def etcd_flags(data: Path) -> list[str]:
    """etcd without TLS, on the loopback of a network namespace that holds nothing but the control plane.

    It does not wait for the disk: what a lab's etcd acknowledged survives kill -9 of etcd, not a power cut.
    """
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        "--name=lab",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=lab={peer}",
        f"--quota-backend-bytes={8 << 30}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_flags(plan: Plan, secrets: Secrets) -> list[str]:
    issuer = "https://kubernetes.default.svc.cluster.local"
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={plan.control.v4.ip}",
        "--bind-address=::",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={secrets.serving.certificate}",
        f"--tls-private-key-file={secrets.serving.key}",
        f"--client-ca-file={secrets.authority.pair.certificate}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={','.join(SERVICE_CIDRS)}",
        f"--service-account-issuer={issuer}",
        f"--service-account-key-file={secrets.service_accounts.certificate}",
        f"--service-account-signing-key-file={secrets.service_accounts.key}",
        f"--requestheader-client-ca-file={secrets.front_proxy.pair.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={secrets.front_proxy_client.certificate}",
        f"--proxy-client-key-file={secrets.front_proxy_client.key}",
        "--profiling=false",
    ]


def controller_flags(secrets: Secrets, kubeconfig: Path) -> list[str]:
    return [
        *_client_flags(kubeconfig),
        f"--node-monitor-grace-period={GRACE_PERIOD}",
        "--node-monitor-period=2s",
        "--allocate-node-cidrs=false",
        f"--root-ca-file={secrets.authority.pair.certificate}",
        f"--service-account-private-key-file={secrets.service_accounts.key}",
        f"--cluster-signing-cert-file={secrets.authority.pair.certificate}",
        f"--cluster-signing-key-file={secrets.authority.pair.key}",
        "--use-service-account-credentials=true",
    ]


def scheduler_flags(kubeconfig: Path) -> list[str]:
    return _client_flags(kubeconfig)


def _client_flags(kubeconfig: Path) -> list[str]:
    """There is one of each, so none waits to be elected; the rate limits are those of a busy cluster."""
    flags = [f"--{purpose}kubeconfig={kubeconfig}" for purpose in ("", "authentication-", "authorization-")]
    return [*flags, "--leader-elect=false", "--bind-address=127.0.0.1", "--kube-api-qps=200", "--kube-api-burst=400"]


async def wait_ready(server: str, secrets_directory: Path, patience: float = 60.0) -> None:
    """Return when https://`server`/readyz says ok."""
    context = ssl.create_default_context(cafile=secrets_directory / "ca.crt")
    context.load_cert_chain(secrets_directory / "admin.crt", secrets_directory / "admin.key")
    said = "no answer"
    try:
        async with asyncio.timeout(patience):
            while True:
                said = await _readyz(server, context)
                if said == "ok":
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise LabError(f"the API server at {server} is not ready after {patience:.0f} s: {said}") from None


async def _readyz(server: str, context: ssl.SSLContext) -> str:
    try:
        reader, writer = await asyncio.open_connection(server, API_PORT, ssl=context)
    except OSError as error:
        return str(error)
    try:
        writer.write(f"GET /readyz HTTP/1.0\r\nHost: {server}\r\n\r\n".encode())
        answer = (await reader.read()).decode()
    except OSError as error:
        return str(error)
    finally:
        writer.close()
    return answer.rpartition("\r\n\r\n")[2]
