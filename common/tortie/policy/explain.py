"""Verdicts in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from tortie.api.protocols import protocol_name
from tortie.policy.evaluate import Side, Verdict
from tortie.policy.flows import Flow, protocol_number
from tortie.policy.judge import ALLOW, DENY, END_OF_TIER, FAILSAFE, LOG, NO_PROFILE_MATCH, PASS, TO_HOST, Step

VERBS = {ALLOW: "allows", DENY: "denies", LOG: "logs", PASS: "passes to the next tier"}
DONE = {"allow": "allowed", "deny": "denied"}


def flow(of: Flow) -> str:
    """`shop/web → shop/db TCP 5432`; translated: `shop/web → 10.96.0.7 TCP 80 (to 10.0.0.3:8080)`."""
    ends = [text.removeprefix("pod:").removeprefix("ip:") for text in (of.source, of.target)]
    protocol = protocol_name(protocol_number(of.protocol))
    port = "" if of.port is None else f" {of.port}"
    return f"{ends[0]} → {ends[1]} {protocol}{port}" + (f" (to {of.dnat})" if of.dnat else "")


def lines(of: Flow, verdict: Verdict) -> Iterator[str]:
    yield f"{flow(of)}: {DONE[verdict.verdict]}"
    if verdict.egress:
        yield from side(verdict.egress, f"leaving {of.source}")
    if verdict.ingress:
        yield from side(verdict.ingress, f"arriving at {of.target}")


def side(of: Side, where: str) -> Iterator[str]:
    yield f"  {where}: {DONE[of.verdict]}" + ("" if of.trace else ", no policy is in the way")
    for each in of.trace:
        yield f"    {step(each)}"


def step(of: Step) -> str:
    name = f"{of.namespace}/{of.name}" if of.namespace else of.name
    verb = VERBS[of.action]
    if of.rule == END_OF_TIER:
        end = "ends with Deny" if of.action == DENY else "passes to the next"
        return f"tier {of.tier}: no rule matches of what governs it (up to {of.kind} {name}), the tier {end}"
    if of.rule == NO_PROFILE_MATCH:
        return f"the profile {name} does not exist, which denies" if name else "no policy and no profile allows it"
    if of.rule == FAILSAFE:
        return f"a failsafe port of {of.kind} {name}, which policy cannot close"
    if of.rule == TO_HOST:
        return f"defaultEndpointToHostAction of node {name} {verb}"
    if of.kind == "Profile":
        return f"no policy decides, and {_profile(of.name)} {verb}"
    return f"tier {of.tier}: {of.kind} {name}, rule {of.rule}: {verb}"


def _profile(name: str) -> str:
    kind, _, rest = name.partition(".")
    return {"kns": f"the namespace {rest}", "ksa": f"the service account {rest.replace('.', '/', 1)}"}.get(
        kind, f"the profile {name}"
    )
