"""Which nodes have an endpoint that a policy selects. Pure, and incremental: endpoints count by their label sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from tortie.api.compiled import CompiledPolicySpec
from tortie.api.internal import LabelSet, NodePeer
from tortie.api.labelindex import LabelIndex, SelectorIndex
from tortie.api.selector import parse
from tortie.operator.keys import source_key
from tortie.policy.labels import of_pod

Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""A label set: (namespace, service account, own labels)."""
Inherited = Callable[[str], Mapping[str, str]]
"""Source key of a profile → the labels that its endpoints inherit."""


class Selection:
    def __init__(self, inherited: Inherited) -> None:
        self._inherited = inherited
        self._nodes: dict[Key, Counter[str]] = {}
        """Label set → node → number of its endpoints that have addresses."""
        self._peers: dict[str, Counter[Key]] = {}
        self._profiles: dict[str, set[Key]] = {}
        """Source key of a profile → label sets of its endpoints."""
        self._labels: LabelIndex[Key] = LabelIndex()
        self._selectors: SelectorIndex[str] = SelectorIndex()
        self._canonical: dict[str, str] = {}
        self._matches: dict[str, set[Key]] = {}
        """By source key of the policy: the label sets that it selects."""
        self._policies: dict[Key, set[str]] = {}
        """The same the other way round."""

    def nodes(self, policy: str) -> set[str]:
        return {node for key in self._matches.get(policy, ()) for node in self._nodes[key]}

    def policies(self, node: str) -> set[str]:
        """Policies that select an endpoint on a node."""
        return {policy for key in self._peers.get(node, ()) for policy in self._policies[key]}

    def policy(self, key: str, spec: CompiledPolicySpec | None) -> None:
        """A policy is new, changed or gone."""
        if spec is not None and self._canonical.get(key) == spec.selector:
            return
        for each in self._matches.pop(key, ()):
            self._policies[each].discard(key)
        self._selectors.remove(key)
        self._canonical.pop(key, None)
        if spec is not None:
            selector = parse(spec.selector)
            self._canonical[key] = spec.selector
            self._selectors.put(key, selector)
            self._matches[key] = set(self._labels.matching(selector))
            for each in self._matches[key]:
                self._policies[each].add(key)

    def peer(self, name: str, peer: NodePeer | None) -> set[str]:
        """A NodePeer is new, changed or gone. Returns the policies whose nodes may have changed."""
        before, after = self._peers.pop(name, Counter()), counted(peer)
        if after:
            self._peers[name] = after
        touched: set[str] = set()
        for key in before.keys() | after.keys():
            if before[key] == after[key]:
                continue
            if key not in self._nodes:
                self._enter(key)
            nodes = self._nodes[key]
            nodes[name] += after[key] - before[key]
            if bool(before[key]) != bool(after[key]):
                touched |= self._policies[key]
            if not nodes[name]:
                del nodes[name]
            if not nodes:
                self._leave(key)
        return touched

    def profile(self, source: str) -> set[str]:
        """What endpoints of a profile inherit has changed. Returns the policies whose nodes may have changed."""
        touched: set[str] = set()
        for key in self._profiles.get(source, ()):
            before = self._policies[key]
            self._look(key)
            touched |= before ^ self._policies[key]
        return touched

    def _enter(self, key: Key) -> None:
        self._nodes[key] = Counter()
        for profile in profiles(key):
            self._profiles.setdefault(profile, set()).add(key)
        self._policies[key] = set()
        self._look(key)

    def _leave(self, key: Key) -> None:
        for policy in self._policies.pop(key):
            self._matches[policy].discard(key)
        for profile in profiles(key):
            self._profiles[profile].discard(key)
            if not self._profiles[profile]:
                del self._profiles[profile]
        self._labels.remove(key)
        del self._nodes[key]

    def _look(self, key: Key) -> None:
        """Which policies select a label set, anew."""
        namespace, account, own = key
        of_namespace, of_account = map(self._inherited, profiles(key))
        labels = of_pod(dict(own), namespace, account, {**of_account, **of_namespace})
        self._labels.put(key, labels)
        for policy in self._policies[key]:
            self._matches[policy].discard(key)
        self._policies[key] = set(self._selectors.matching(labels))
        for policy in self._policies[key]:
            self._matches[policy].add(key)


def profiles(key: Key) -> tuple[str, str]:
    """Source keys of the profiles that endpoints with a label set have."""
    return source_key("kns", key[0]), source_key("ksa", key[1], key[0])


def key_of(labels: LabelSet) -> Key:
    return labels.namespace, labels.service_account, tuple(sorted(labels.labels.items()))


def counted(peer: NodePeer | None) -> Counter[Key]:
    """Label set → number of endpoints of a node that have addresses and it."""
    if peer is None:
        return Counter()
    sets = [key_of(labels) for labels in peer.spec.label_sets]
    return Counter(sets[endpoint.labels] for endpoint in peer.spec.endpoints if endpoint.addresses)
