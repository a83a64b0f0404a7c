"""What a policy names that has to be published for it."""

from __future__ import annotations

from collections.abc import Iterator

from tortie.api.compiled import CompiledPolicySpec, Peer
from tortie.operator.compile.peers import NOISE
from tortie.operator.keys import source_key


def services_named(spec: CompiledPolicySpec) -> frozenset[str]:
    """Source keys of the services that rules name."""
    found = (peer.service.partition("/") for peer in peers(spec) if peer.service)
    return frozenset(source_key("svc", name, namespace) for namespace, _, name in found)


def keys_named(spec: CompiledPolicySpec) -> frozenset[str]:
    """Label keys that selectors name and that NodePeers leave out until one does.

    By text: that a value spells such a key makes one more label be published, nothing worse.
    """
    texts = {spec.selector, *(text for peer in peers(spec) for text in (peer.selector, peer.not_selector))}
    return frozenset(key for key in NOISE if any(key in text for text in texts))


def peers(spec: CompiledPolicySpec) -> Iterator[Peer]:
    for rule in (*spec.ingress, *spec.egress):
        yield from rule.sources
        yield from rule.destinations
