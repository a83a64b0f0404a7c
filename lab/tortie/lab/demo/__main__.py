"""`python -m tortie.lab.demo`.

Each expectation is printed with `ok` or `FAILED`; the exit code is 0 only if all held. The cluster stays up, to be
looked at; run again, the demo removes it and makes a new one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping

from tortie.lab import Lab, LabError
from tortie.lab.binaries import ROOT
from tortie.lab.demo import matrix, policies
from tortie.lab.demo.outage import kill_an_agent
from tortie.lab.demo.policies import Judgement, Path
from tortie.lab.demo.shop import EXAMPLE, FAMILIES, NAMESPACE, Shop, deploy, is_ready, listed, name, node_of
from tortie.lab.demo.words import Expectations, headline

NAME, NODES = "demo", 3


async def main() -> int:
    expectations = Expectations()
    started = time.monotonic()
    lab = Lab(NAME, lambda line: print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True))
    headline(f"A cluster of {NODES} nodes: control plane, operator and an agent a node")
    await lab.down()
    await lab.up(NODES)
    headline(f"A small shop: kubectl apply -f {(EXAMPLE / 'shop.yaml').relative_to(ROOT)}")
    shop = await deploy(lab)
    expectations.expect(True, f"{len(shop.pods)} pods on {len({node_of(pod) for pod in shop.pods})} nodes are ready")
    await without_policy(lab, shop, expectations)
    said = await with_policy(lab, shop, expectations)
    node = node_of(shop.pods[0])
    headline(f"The agent of {node} is killed with -9 under traffic")
    await kill_an_agent(lab, node, allowed(shop, node, said), expectations)
    await probed(lab, expectations)
    farewell(lab)
    return 1 if expectations.failed else 0


async def without_policy(lab: Lab, shop: Shop, expectations: Expectations) -> None:
    headline("Who reaches whom (rows: from; columns: the pods by number, then the Services; 4 and 6: IPv4 and IPv6)")
    await matrix.services_programmed(lab, shop)
    rows = await matrix.matrix(lab, shop)
    matrix.show(shop, rows)
    cells = [cell for row in rows for cell in row]
    good, all_paths = sum(map(len, cells)), len(FAMILIES) * len(cells)
    expectations.expect(good == all_paths, f"{good} of {all_paths} paths lead to the right pod")


async def with_policy(lab: Lab, shop: Shop, expectations: Expectations) -> dict[Path, Judgement]:
    headline(f"Policy for it: kubectl apply -f {policies.MANIFEST.relative_to(ROOT)}")
    for what, seconds in await policies.apply(lab):
        print(f"  {seconds:>6.2f} s  {what}")
    expectations.expect(True, "all policies are Enforced")

    headline("Who reaches whom now")
    said = await policies.judged(lab, shop)
    rows = await matrix.matrix(lab, shop)
    matrix.show(shop, rows)
    headline("What is denied, on how many of the paths, and by which rule")
    for count, what, rule in policies.denials(said):
        print(f"  {count:>3}  {what:<32} {rule}")
    print()
    wrong = list(policies.disagreements(shop, rows, said))
    for line in wrong[:10]:
        print(f"          {line}")
    certain = sum(each.is_certain for each in said.values())
    expectations.expect(not wrong, f"all {certain} paths are as the evaluator says of the same objects")
    if open_ended := len(said) - certain:
        print(
            f"          ({open_ended} more depend on the backend that kube-proxy chooses, or lead through it to itself)"
        )
    return said


def allowed(shop: Shop, node: str, said: Mapping[Path, Judgement]) -> dict[str, list[str]]:
    """For a pod on that node and one elsewhere, all that they may reach."""
    outside = next(pod for pod in shop.pods if node_of(pod) != node)
    return {
        name(pod): [
            target
            for column in shop.columns
            for family in FAMILIES
            if said[name(pod), column, family].verdicts == {"allow"} and (target := column.target(family))
        ]
        for pod in (shop.on(node)[0], outside)
    }


async def probed(lab: Lab, expectations: Expectations) -> None:
    pods = await listed(lab, "pods")
    ready = sum(map(is_ready, pods))
    expectations.expect(ready == len(pods), f"{ready} of {len(pods)} pods are ready: no policy stops a probe")


def farewell(lab: Lab) -> None:
    headline("The cluster stays up. Go on with")
    print(
        f"""
  export KUBECONFIG={lab.kubeconfig}
  .venv/bin/tortie policy status -w                                     (and edit a policy meanwhile)
  .venv/bin/tortie why {NAMESPACE}/db-0 {NAMESPACE}/catalogue:9000
  .venv/bin/tortie lab kubectl --name {NAME} -- get pods -A -o wide     (or any kubectl)
  .venv/bin/tortie lab exec --name {NAME} {NAMESPACE}/db-0 -- ip address
  .venv/bin/tortie lab kubectl --name {NAME} -- get nodestates,nodepeers,policystatuses
  .venv/bin/tortie lab logs --name {NAME} agent/node1
  make demo-down
"""
    )


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("the demo needs root: it makes namespaces, interfaces and mounts")
    try:
        sys.exit(asyncio.run(main()))
    except LabError as error:
        sys.exit(f"  FAILED  {error}")
