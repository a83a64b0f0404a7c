"""Which nodes have an endpoint that a policy selects. Pure, and incremental: endpoints count by their label sets.

A label set is looked at once per policy, however many pods have it, and only by policies that can select it: those of
its namespace and the global ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from tortie.api.compiled import CompiledPolicySpec
from tortie.api.internal import LabelSet, NodePeer
from tortie.api.selector import Selector, parse
from tortie.operator.keys import source_key
from tortie.policy.labels import of_pod

Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""(namespace, service account, own labels)."""
Inherited = Callable[[str], Mapping[str, str]]
"""Source key of a profile → the labels that its endpoints inherit."""


class Selection:
    def __init__(self, inherited: Inherited) -> None:
        self._inherited = inherited
        self._nodes: dict[Key, Counter[str]] = {}
        """Node → number of endpoints that have addresses."""
        self._peers: dict[str, Counter[Key]] = {}
        self._selectors: dict[str, tuple[str, Selector]] = {}
        """By source key of the policy: its namespace, empty for a global one, and whom it is for."""
        self._matches: dict[str, set[Key]] = {}

    def nodes(self, policy: str) -> set[str]:
        return {node for key in self._matches.get(policy, ()) for node in self._nodes.get(key, ())}

    def policy(self, key: str, spec: CompiledPolicySpec | None) -> None:
        """A policy is new, changed or gone."""
        if spec is None:
            self._selectors.pop(key, None)
            self._matches.pop(key, None)
            return
        known = self._selectors.get(key)
        if known is not None and known[1].canonical == spec.selector:
            return
        self._selectors[key] = spec.source.namespace, parse(spec.selector)
        self._matches[key] = {each for each in self._nodes if self._selects(key, each)}

    def peer(self, name: str, peer: NodePeer | None) -> set[str]:
        """A NodePeer is new, changed or gone. Returns the policies whose nodes may have changed."""
        before, after = self._peers.pop(name, Counter()), counted(peer)
        if after:
            self._peers[name] = after
        touched: set[str] = set()
        for key in before.keys() | after.keys():
            if before[key] == after[key]:
                continue
            nodes = self._nodes.setdefault(key, Counter())
            new = not nodes
            nodes[name] += after[key] - before[key]
            if not nodes[name]:
                del nodes[name]
            if new:
                self._look(key)
            if bool(before[key]) != bool(after[key]):
                touched |= {policy for policy, keys in self._matches.items() if key in keys}
            if not nodes:
                del self._nodes[key]
                for keys in self._matches.values():
                    keys.discard(key)
        return touched

    def profile(self, source: str) -> set[str]:
        """What endpoints of a profile inherit has changed. Returns the policies whose nodes may have changed."""
        touched: set[str] = set()
        for key in self._nodes:
            if source in (source_key("kns", key[0]), source_key("ksa", key[1], key[0])):
                before = {policy for policy, keys in self._matches.items() if key in keys}
                self._look(key)
                after = {policy for policy, keys in self._matches.items() if key in keys}
                touched |= before ^ after
        return touched

    def _look(self, key: Key) -> None:
        for policy, keys in self._matches.items():
            if self._selects(policy, key):
                keys.add(key)
            else:
                keys.discard(key)

    def _selects(self, policy: str, key: Key) -> bool:
        namespace, selector = self._selectors[policy]
        if namespace not in ("", key[0]):
            return False
        own_namespace, account, labels = key
        inherited = {
            **self._inherited(source_key("ksa", account, own_namespace)),
            **self._inherited(source_key("kns", own_namespace)),
        }
        return selector.matches(of_pod(dict(labels), own_namespace, account, inherited))


def key_of(labels: LabelSet) -> Key:
    return labels.namespace, labels.service_account, tuple(sorted(labels.labels.items()))


def counted(peer: NodePeer | None) -> Counter[Key]:
    """Label set → number of endpoints of a node that have addresses and it."""
    if peer is None:
        return Counter()
    sets = [key_of(labels) for labels in peer.spec.label_sets]
    return Counter(sets[endpoint.labels] for endpoint in peer.spec.endpoints if endpoint.addresses)
