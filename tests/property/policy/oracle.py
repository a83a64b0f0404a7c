"""A second reading of Calico's semantics, straight from users' documents, on sets of packets.

It shares nothing with tortie: no record, no normal form, no selector parser, no rewriting. A namespace selector is
asked of the namespace, an account selector of the account, and a policy is a walk that splits sets of packets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .objects import Json
from .reading import Reading, kubernetes
from .selectors import TREES, holds
from .things import Thing
from .universe import ALL


@dataclass
class Policy:
    document: Json
    tier: str
    order: float
    kind: str
    ingress: list[tuple[str, int]] = field(default_factory=list)
    """Action and the packets that the rule matches."""
    egress: list[tuple[str, int]] = field(default_factory=list)
    types: set[str] = field(default_factory=set)

    @property
    def tie(self) -> str:
        meta = self.document["metadata"]
        return f"{meta['name']}/{meta.get('namespace', '')}/{self.kind}"


class World(Reading):
    def __init__(self, documents: list[Json]) -> None:
        super().__init__(documents)
        self.tiers = {
            "kube-admin": (1000.0, "Pass"),
            "default": (1e6, "Deny"),
            "kube-baseline": (1e7, "Pass"),
        }
        for tier in self.of("Tier"):
            spec = tier["spec"]
            self.tiers[tier["metadata"]["name"]] = spec.get("order", float("inf")), spec.get("defaultAction", "Deny")
        self.policies = [self.policy(d) for d in self.documents if d["kind"] in POLICY_KINDS]

    def policy(self, d: Json) -> Policy:
        kind, spec = d["kind"], d["spec"]
        if kind == "ClusterNetworkPolicy":
            tier = {"Admin": "kube-admin", "Baseline": "kube-baseline"}[spec["tier"]]
            policy = Policy(d, tier, spec["priority"], "KubernetesClusterNetworkPolicy")
            policy.ingress = [self.cluster_rule(rule, "from") for rule in spec.get("ingress", [])]
            policy.egress = [self.cluster_rule(rule, "to") for rule in spec.get("egress", [])]
            policy.types = {word for word in ("Ingress", "Egress") if spec.get(word.lower())}
        elif "podSelector" in spec:
            policy = Policy(d, "default", 1000, "KubernetesNetworkPolicy" if kind == "NetworkPolicy" else kind)
            namespace = d["metadata"]["namespace"]
            policy.ingress = [("Allow", self.kubernetes_rule(r, "from", namespace)) for r in spec.get("ingress", [])]
            policy.egress = [("Allow", self.kubernetes_rule(r, "to", namespace)) for r in spec.get("egress", [])]
            policy.types = set(spec.get("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))
        else:
            policy = Policy(d, spec.get("tier", "default"), spec.get("order", float("inf")), kind)
            namespace = d["metadata"].get("namespace", "")
            policy.ingress = [self.rule(rule, namespace) for rule in spec.get("ingress", [])]
            policy.egress = [self.rule(rule, namespace) for rule in spec.get("egress", [])]
            policy.types = set(spec.get("types", [])) or _default_types(spec)
        return policy

    def selects(self, policy: Policy, thing: Thing) -> bool:
        if thing.kind not in ("Pod", "HostEndpoint"):
            return False
        d, spec = policy.document, policy.document["spec"]
        namespace = d["metadata"].get("namespace", "")
        if namespace and thing.namespace != namespace:
            return False
        if d["kind"] == "ClusterNetworkPolicy":
            return self.cluster_pods(spec["subject"], thing)
        if "podSelector" in spec:
            return kubernetes(spec["podSelector"], thing.own)
        # all() of a global policy is about namespaces or accounts as soon as it selects by these
        everything = True
        if spec.get("namespaceSelector"):
            everything = thing.namespace is not None
        elif spec.get("serviceAccountSelector") and not namespace:
            everything = thing.account is not None
        if spec.get("selector") and not holds(TREES[spec["selector"]], thing.labels, everything):
            return False
        if spec.get("namespaceSelector"):
            tree = TREES[spec["namespaceSelector"]]
            if not holds(tree, thing.namespace_labels, thing.namespace is not None):
                return False
        if spec.get("serviceAccountSelector"):
            everything = bool(namespace) or thing.account is not None
            return holds(TREES[spec["serviceAccountSelector"]], thing.account_labels, everything)
        return True

    def decided(self, thing: Thing, direction: str, hook: str) -> tuple[int, int]:
        """Packets that the policies of an endpoint allow, and those that they deny, at a hook; the rest they leave."""
        allowed = denied = 0
        left = ALL
        for tier in self.tiers_in_order():
            governing = [
                policy
                for policy in sorted((p for p in self.policies if p.tier == tier), key=lambda p: (p.order, p.tie))
                if direction in policy.types
                and "stagedAction" not in policy.document["spec"]
                and _counts_at(policy.document["spec"], hook)
                and self.selects(policy, thing)
            ]
            inside = left
            for policy in governing:
                for action, matched in policy.ingress if direction == "Ingress" else policy.egress:
                    hit = inside & matched
                    if action == "Log":
                        continue
                    inside &= ~hit
                    if action == "Allow":
                        allowed |= hit
                    elif action == "Deny":
                        denied |= hit
                    if action != "Pass":
                        left &= ~hit
            default = self.tiers.get(tier, (0, "Deny"))[1]
            if governing and default == "Deny" and hook not in ("preDNAT", "untracked"):
                denied |= inside
                left &= ~inside
        return allowed, denied

    def tiers_in_order(self) -> list[str]:
        missing = {policy.tier for policy in self.policies} - self.tiers.keys()
        return [*sorted(self.tiers, key=lambda name: (self.tiers[name][0], name)), *sorted(missing)]

    def by_profiles(self, thing: Thing, direction: str) -> int:
        """Packets that the profiles of an endpoint allow; all others they deny."""
        allowed, left = 0, ALL
        for name in thing.profiles:
            if name.startswith("kns.") or name == "projectcalico-default-allow":
                rules = [("Allow", ALL)]
            elif name.startswith("ksa."):
                rules = []
            elif name in self.profile_documents:
                rules = [self.rule(each, "") for each in self.profile_documents[name].get(direction.lower(), [])]
            else:
                rules = [("Deny", ALL)]
            for action, matched in rules:
                if action == "Allow":
                    allowed |= left & matched
                if action != "Log":
                    left &= ~matched
        return allowed

    def passes(self, thing: Thing, direction: str, hook: str) -> int:
        """Packets that an endpoint lets through at a hook where its word is final."""
        allowed, denied = self.decided(thing, direction, hook)
        rest = self.by_profiles(thing, direction) if hook in ("workload", "normal") else ALL
        return allowed | (rest & ~denied)


POLICY_KINDS = {
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "ClusterNetworkPolicy",
}


def _default_types(spec: Json) -> set[str]:
    if spec.get("ingress") and spec.get("egress"):
        return {"Ingress", "Egress"}
    return {"Egress"} if spec.get("egress") else {"Ingress"}


def _counts_at(spec: Json, hook: str) -> bool:
    if spec.get("doNotTrack") or spec.get("preDNAT"):
        return hook == ("untracked" if spec.get("doNotTrack") else "preDNAT")
    return {"forward": bool(spec.get("applyOnForward")), "workload": True, "normal": True}.get(hook, False)
