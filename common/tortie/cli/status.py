"""`tortie policy status`: was each policy understood, is it in force on all of its nodes, and whom does it wait for?

Read from the operator's PolicyStatus objects, which tell it of every kind (Kubernetes' own NetworkPolicy has no
status), beside the policies themselves: one that the operator has not seen yet must not go unmentioned.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from kubernetes_asyncio.config import ConfigException

from tortie.api.internal import NodeReport, PolicyStatus, compiled_name
from tortie.api.meta import Metadata, Record
from tortie.cli import clusters
from tortie.cli.manifests import UsageError
from tortie.kube import resources
from tortie.kube.client import ApiError, Client, NotFound, Resource
from tortie.kube.informer import Bookmark, Change, Gone, Informer, Replaced
from tortie.policy.cluster import KIND_NAMES

STATUSES = "statuses"
SOURCES: dict[str, Resource] = {
    "knp": resources.KUBERNETES_NETWORK_POLICY,
    "cnp": resources.CLUSTER_NETWORK_POLICY,
    "np": resources.NETWORK_POLICY,
    "gnp": resources.GLOBAL_NETWORK_POLICY,
    "snp": resources.STAGED_NETWORK_POLICY,
    "sgnp": resources.STAGED_GLOBAL_NETWORK_POLICY,
    "sknp": resources.STAGED_KUBERNETES_NETWORK_POLICY,
    STATUSES: resources.POLICY_STATUSES,
}
GATHER = 0.1
"""Seconds in which changes are gathered before they are shown: one policy's edit is news of several objects."""


class Named(Record):
    """As much of a policy as says which version of it there is."""

    metadata: Metadata


class Told(Record, omit_defaults=False):
    """A condition; `status` is True, False or Unknown."""

    status: str
    reason: str
    message: str


class Standing(Record, omit_defaults=False):
    """How a policy stands: a line of the output."""

    kind: str
    namespace: str
    name: str
    accepted: Told
    enforced: Told
    on: int = 0
    """Nodes that have it in the kernel, of `of` reachable ones with an endpoint that it selects."""
    of: int = 0
    waiting: tuple[NodeReport, ...] = ()
    failed: tuple[NodeReport, ...] = ()
    unreachable: tuple[NodeReport, ...] = ()


Objects = dict[str, dict[str, Any]]
"""By key of SOURCES, then by `namespace/name`: Named, or PolicyStatus."""


def add(actions: Any) -> None:
    parser = actions.add_parser("status", help="how far policies are in force", description=__doc__)
    parser.add_argument("--kubeconfig", metavar="FILE", help="of the cluster ($KUBECONFIG, ~/.kube/config)")
    parser.add_argument("-n", "--namespace", default="", metavar="NAMESPACE", help="only this one's policies")
    parser.add_argument("-w", "--watch", action="store_true", help="go on as policies come into force")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="format (text)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    path = clusters.kubeconfig(options.kubeconfig)
    try:
        asyncio.run(_run(options))
    except (ApiError, ConfigException, OSError) as error:
        print(f"tortie policy status: no cluster to ask ({path or 'as this pod'}): {error}", file=sys.stderr)
        return 2
    except UsageError as error:
        print(f"tortie policy status: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


async def _run(options: argparse.Namespace) -> None:
    show = Lines() if options.output == "text" else _json
    wanted = {k: r for k, r in SOURCES.items() if r.namespaced or k == STATUSES or not options.namespace}
    async with await Client.connect(clusters.kubeconfig(options.kubeconfig), user_agent="tortie") as client:
        found = await asyncio.gather(*(_listed(client, key, options.namespace) for key in wanted))
        objects = dict(zip(wanted, found, strict=True))
        shown = standings(objects, options.namespace)
        show(shown.values())
        if options.watch:
            await _follow(client, objects, options.namespace, shown, show)


async def _listed(client: Client, key: str, namespace: str) -> dict[str, Any]:
    """None of a kind that the cluster does not have; but without PolicyStatus there is no Tortie."""
    resource = SOURCES[key]
    try:
        within = namespace if resource.namespaced else ""
        found = (await client.list(resource, namespace=within, type=_record(key))).items
    except NotFound:
        if key == STATUSES:
            raise UsageError("the cluster does not have Tortie: it serves no policystatuses.tortie.io") from None
        return {}
    return {each.metadata.key: each for each in found}


def _record(key: str) -> type[Any]:
    return PolicyStatus if key == STATUSES else Named


async def _follow(
    client: Client,
    objects: Objects,
    namespace: str,
    shown: Mapping[str, Standing],
    show: Callable[[Iterable[Standing]], None],
) -> None:
    """Show each policy anew that stands otherwise than when it was shown, until interrupted."""
    news = asyncio.Event()

    def listener(key: str) -> Callable[[Change[Any]], None]:
        def listen(change: Change[Any]) -> None:
            taken(objects[key], change)
            news.set()

        return listen

    async with asyncio.TaskGroup() as group:
        for key in objects:
            resource = SOURCES[key]
            within = namespace if resource.namespaced else ""
            informer = Informer(client, resource, _record(key), listener=listener(key), namespace=within)
            group.create_task(informer.run())
        while True:
            await news.wait()
            await asyncio.sleep(GATHER)
            news.clear()
            now = standings(objects, namespace)
            show(changed(shown, now))
            shown = now


def taken(objects: dict[str, Any], change: Change[Any]) -> None:
    match change:
        case Replaced():
            objects.clear()
            objects.update(change.objects)
        case Gone():
            objects.pop(change.key, None)
        case Bookmark():
            pass
        case _:
            objects[change.key] = change.obj


def changed(before: Mapping[str, Standing], now: Mapping[str, Standing]) -> Iterator[Standing]:
    for name, standing in before.items():
        if name not in now:
            gone = Told(status="False", reason="Gone", message="it is deleted, and no node has it any more")
            yield msgspec.structs.replace(standing, enforced=gone, on=0, of=0, waiting=(), failed=(), unreachable=())
    for name, standing in now.items():
        if before.get(name) != standing:
            yield standing


# --- how policies stand -----------------------------------------------------------------------------------------


def standings(objects: Objects, namespace: str = "") -> dict[str, Standing]:
    """By the name of the PolicyStatus, sorted by namespace, global ones first, and name."""
    statuses: Mapping[str, PolicyStatus] = objects[STATUSES]
    found = {
        name: _left(status)
        for name, status in statuses.items()
        if status.spec.source.kind in KIND_NAMES and namespace in ("", status.spec.source.namespace)
    }
    for kind, policies in objects.items():
        for policy in policies.values() if kind != STATUSES else ():
            metadata = policy.metadata
            name = compiled_name(kind, metadata.name, metadata.namespace)
            found[name] = standing(kind, metadata, statuses.get(name))
    return dict(sorted(found.items(), key=lambda item: (item[1].namespace, item[1].name, item[1].kind)))


def standing(kind: str, policy: Metadata, status: PolicyStatus | None) -> Standing:
    if status is None or (status.spec.source.uid, status.spec.source.generation) != (policy.uid, policy.generation):
        unseen = Told(status="Unknown", reason="NotSeen", message="the operator has not told of this version yet")
        of = status.status.nodes if status is not None else 0
        return _standing(kind, policy.namespace, policy.name, accepted=unseen, enforced=unseen, of=of)
    said = status.status
    return _standing(
        kind,
        policy.namespace,
        policy.name,
        accepted=_told(status, "Accepted"),
        enforced=_told(status, "Enforced"),
        on=said.enforced,
        of=said.nodes,
        waiting=said.waiting,
        failed=said.failed,
        unreachable=said.unreachable,
    )


def _left(status: PolicyStatus) -> Standing:
    """Of a policy that is deleted: its status stays until no reachable node has it any more."""
    source = status.spec.source
    deleted = Told(status="Unknown", reason="Deleted", message="it is deleted, and nodes still have it")
    accepted, on, of = _told(status, "Accepted"), status.status.enforced, status.status.nodes
    return _standing(source.kind, source.namespace, source.name, accepted=accepted, enforced=deleted, on=on, of=of)


def _standing(kind: str, namespace: str, name: str, **rest: Any) -> Standing:
    return Standing(kind=KIND_NAMES[kind], namespace=namespace, name=name, **rest)


def _told(status: PolicyStatus, kind: str) -> Told:
    for each in status.status.conditions:
        if each.type == kind:
            return Told(status=each.status, reason=each.reason, message=each.message)
    return Told(status="Unknown", reason="NotSeen", message="")


# --- as text ----------------------------------------------------------------------------------------------------

TITLES = ("NAMESPACE", "NAME", "KIND", "ACCEPTED", "ENFORCED", "ON")


class Lines:
    """A table that goes on: later rows keep the columns of the first ones, and widen them if they must."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def __call__(self, found: Iterable[Standing]) -> None:
        for line in self.lines(list(found)):
            print(line, flush=True)

    def lines(self, found: Sequence[Standing]) -> Iterator[str]:
        rows = [_row(each) for each in found]
        table = rows if self._widths else [TITLES, *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        self._widths = [max(pair) for pair in zip_longest(self._widths, widths, fillvalue=0)]
        if table is not rows:
            yield self._line(TITLES)
        for row, each in zip(rows, found, strict=True):
            yield self._line(row)
            yield from (f"    {line}" for line in reasons(each))

    def _line(self, row: Sequence[str]) -> str:
        return "  ".join(f"{cell:<{width}}" for cell, width in zip(row, self._widths, strict=True)).rstrip()


def _row(of: Standing) -> tuple[str, ...]:
    on = f"{of.on}/{of.of}"
    return of.namespace or "-", of.name, of.kind, of.accepted.status, of.enforced.status, on


def reasons(of: Standing) -> Iterator[str]:
    """What there is to say of a policy that is not simply accepted and in force."""
    if of.accepted.message:
        yield f"accepted: {of.accepted.reason}: {of.accepted.message}"
    nodes = [("failed", of.failed), ("waiting", of.waiting), ("unreachable", of.unreachable)]
    named = bool(of.failed or of.waiting)
    if of.enforced.status != "True" and not named and of.enforced != of.accepted:
        yield f"enforced: {of.enforced.reason}: {of.enforced.message}"
    for word, reports in nodes:
        yield from (f"{word}: {report.node}: {report.reason}" for report in reports)
    unnamed = of.of - of.on - len(of.failed) - len(of.waiting)
    if named and unnamed > 0:
        yield f"and {unnamed} more nodes"


def _json(found: Iterable[Standing]) -> None:
    for each in found:
        print(msgspec.json.encode(each).decode(), flush=True)
