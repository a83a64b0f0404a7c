"""What a cluster's policies are expected to allow and to deny: the files of `tortie policy test`.

```yaml
apiVersion: tortie.io/v1alpha1
kind: PolicyTest
manifests: [../cluster.yaml, policy.yaml]       # files and directories, from here
expect:
  - allow: {from: shop/web, to: shop/db, port: 5432}
  - deny: {from: [shop/web, "ip:203.0.113.7"], to: shop/db, port: [22, 80]}
    because: only the shop's own traffic has a place here
```

`allow` and `deny` are flows as `tortie policy evaluate` has them (`from`, `to`, `protocol`, `port`, `sport`, `icmp`,
`dnat`, `direction`), but that `NAMESPACE/NAME` is a pod, and that lists of ends and ports mean each with each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeVar

import msgspec

from tortie.api.meta import Record
from tortie.api.rules import IntOrString
from tortie.policy.cluster import Cluster
from tortie.policy.evaluate import Side, evaluate
from tortie.policy.flows import Flow, ICMPMessage

T = TypeVar("T")


class Flows(Record, forbid_unknown_fields=True):
    source: str | tuple[str, ...] = msgspec.field(name="from")
    target: str | tuple[str, ...] = msgspec.field(name="to")
    protocol: IntOrString = "TCP"
    port: int | tuple[int, ...] | None = None
    sport: int | None = None
    icmp: ICMPMessage | None = None
    dnat: str = ""
    direction: str = ""

    def each(self) -> Iterator[Flow]:
        for source, target, port in product(_all(self.source), _all(self.target), _all(self.port)):
            yield Flow(
                source=_end(source),
                target=_end(target),
                protocol=self.protocol,
                port=port,
                sport=self.sport,
                icmp=self.icmp,
                dnat=self.dnat,
                direction=self.direction,
            )


def _all(value: T | tuple[T, ...]) -> tuple[T, ...]:
    return value if isinstance(value, tuple) else (value,)


def _end(text: str) -> str:
    return text if text.startswith(("pod:", "host:", "ip:")) else f"pod:{text}"


class Expectation(Record, forbid_unknown_fields=True):
    """Exactly one of `allow` and `deny`."""

    allow: Flows | None = None
    deny: Flows | None = None
    because: str = ""


API_VERSION, KIND = "tortie.io/v1alpha1", "PolicyTest"


class Expectations(Record, forbid_unknown_fields=True):
    api_version: str
    kind: str
    manifests: tuple[str, ...]
    expect: tuple[Expectation, ...]


def read(document: Any) -> Expectations:
    """Raises ValueError, which says what is wrong and where."""
    found = msgspec.convert(document, Expectations)
    if (found.api_version, found.kind) != (API_VERSION, KIND):
        raise ValueError(f"must be of apiVersion {API_VERSION} and kind {KIND}")
    if not found.expect:
        raise ValueError("nothing is expected - at `$.expect`")
    for index, each in enumerate(found.expect):
        if (each.allow is None) == (each.deny is None):
            raise ValueError(f"needs either allow or deny - at `$.expect[{index}]`")
    return found


class Result(Record, omit_defaults=False):
    flow: Flow
    expected: str
    """allow or deny."""
    verdict: str
    because: str
    egress: Side | None
    ingress: Side | None

    @property
    def passed(self) -> bool:
        return self.verdict == self.expected


def results(expectations: Expectations, cluster: Cluster) -> Iterator[Result]:
    """Raises FlowError."""
    for each in expectations.expect:
        for expected, flows in (("allow", each.allow), ("deny", each.deny)):
            for flow in flows.each() if flows else ():
                verdict = evaluate(cluster, flow)
                yield Result(
                    flow=flow,
                    expected=expected,
                    verdict=verdict.verdict,
                    because=each.because,
                    egress=verdict.egress,
                    ingress=verdict.ingress,
                )
