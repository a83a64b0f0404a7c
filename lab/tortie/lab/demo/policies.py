"""Policy on the application: applied, in force, and seen to do what the evaluator says of the same objects."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from tortie.api.internal import compiled_name
from tortie.lab import Lab
from tortie.lab.demo.matrix import Matrix
from tortie.lab.demo.shop import EXAMPLE, FAMILIES, Column, Json, Shop, addresses, app, name, of_family
from tortie.policy.build import build, records
from tortie.policy.cluster import Cluster
from tortie.policy.convert import Policy, convert
from tortie.policy.evaluate import Verdict, evaluate
from tortie.policy.explain import step
from tortie.policy.flows import Flow

MANIFEST = EXAMPLE / "policies.yaml"
JUDGED_BY = (
    "nodes,namespaces,serviceaccounts,pods,networkpolicies.networking.k8s.io,networkpolicies.projectcalico.org,"
    "globalnetworkpolicies.projectcalico.org,tiers.projectcalico.org"
)
"""The kinds that the example uses, and whatever policy depends on."""

Path = tuple[str, Column, str]
"""Name of the pod that connects, where to, and the family."""


@dataclass(frozen=True)
class Judgement:
    """What the evaluator says of a path."""

    verdicts: frozenset[str]
    """allow, deny, or both: where kube-proxy chooses a backend, and the way to one is open and to another is not."""
    denials: Mapping[str, str] = field(default_factory=dict)
    """What is denied, as `frontend → db TCP 5432`, and the rule that denies it."""

    @property
    def is_certain(self) -> bool:
        return len(self.verdicts) == 1


async def apply(lab: Lab) -> list[tuple[str, float]]:
    """Returns when all are in force: what there was to wait for, and the seconds since `kubectl apply` began."""
    started = time.monotonic()
    await lab.kubectl("apply", "--server-side", "-f", str(MANIFEST))
    applied = "kubectl apply returned", time.monotonic() - started

    async def in_force(status: str) -> tuple[str, float]:
        await lab.kubectl("wait", "--for=create", status, "--timeout=20s")
        await lab.kubectl("wait", "--for=condition=Enforced", status, "--timeout=20s")
        return f"{status} in force", time.monotonic() - started

    return [applied, *await asyncio.gather(*map(in_force, statuses()))]


def statuses() -> Iterator[str]:
    """The PolicyStatus of each policy of the manifest."""
    for user in records(yaml.safe_load_all(MANIFEST.read_text())):
        if isinstance(user, Policy):
            source = convert(user).spec.source
            yield f"policystatus/{compiled_name(source.kind, source.name, source.namespace)}"


async def judged(lab: Lab, shop: Shop) -> dict[Path, Judgement]:
    """Every path of the matrix, by the objects that the API server has."""
    objects = json.loads(await lab.kubectl("get", JUDGED_BY, "-A", "-o", "json"))
    cluster, _ = build(records([objects]))
    return {
        (name(pod), column, family): judgement(cluster, pod, column, family)
        for pod in shop.pods
        for column in shop.columns
        for family in FAMILIES
    }


def judgement(cluster: Cluster, pod: Json, column: Column, family: str) -> Judgement:
    verdicts, denials = set(), {}
    for backend, port in column.backends:
        source, target = (of_family(addresses(each), family) for each in (pod, backend))
        if source is None or target is None:
            continue
        if column.is_service and backend is pod:
            verdicts |= {"allow", "deny"}  # kube-proxy lets it arrive from an address of the node
            continue
        verdict = evaluate(
            cluster, Flow(source=f"ip:{source}", target=f"ip:{target}", protocol=column.protocol, port=port)
        )
        verdicts.add(verdict.verdict)
        if verdict.verdict == "deny":
            denials[f"{app(pod)} → {app(backend)} {column.protocol.upper()} {port}"] = decisive(verdict)
    return Judgement(frozenset(verdicts), denials)


def decisive(verdict: Verdict) -> str:
    """The rule that denies, in words."""
    side = next(side for side in (verdict.egress, verdict.ingress) if side and side.verdict == "deny")
    return step(side.trace[-1])


def disagreements(shop: Shop, rows: Matrix, said: Mapping[Path, Judgement]) -> Iterator[str]:
    for pod, row in zip(shop.pods, rows, strict=True):
        for column, cell in zip(shop.columns, row, strict=True):
            for family in FAMILIES:
                verdict = "allow" if family in cell else "deny"
                expected = said[name(pod), column, family]
                if verdict not in expected.verdicts:
                    said_so = " or ".join(sorted(expected.verdicts))
                    yield f"{name(pod)} → {column.title} ({column.target(family)}): {verdict}, not {said_so}"


def denials(said: Mapping[Path, Judgement]) -> list[tuple[int, str, str]]:
    """Kinds of path that are denied: of how many paths each is, in words, and the rule; those of a rule together."""
    counts = Counter(denial for each in said.values() for denial in each.denials.items())
    return sorted(((count, what, rule) for (what, rule), count in counts.items()), key=lambda d: (d[2], d[1]))
