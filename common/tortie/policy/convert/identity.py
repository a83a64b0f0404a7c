"""Where a compiled object comes from, and ids of its rules: the same rule of the same policy keeps its id, and so its
counters, whatever is edited around it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import msgspec

from tortie.api.compiled import CompiledRule, Source
from tortie.api.meta import Metadata


def source_of(kind: str, metadata: Metadata) -> Source:
    return Source(
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
    )


def identified(source: Source, direction: str, rules: Iterable[CompiledRule]) -> tuple[CompiledRule, ...]:
    """The rules with their ids: the first 8 bytes of SHA-256 over source uid, direction, canonical rule and the number
    of equal rules before it. An object from a file has no uid; its kind and name stand in."""
    owner = source.uid or f"{source.kind}/{source.namespace}/{source.name}"
    seen: Counter[bytes] = Counter()
    numbered = []
    for rule in rules:
        canonical = msgspec.json.encode(msgspec.structs.replace(rule, id=""))
        text = b"\0".join((owner.encode(), direction.encode(), canonical, str(seen[canonical]).encode()))
        seen[canonical] += 1
        numbered.append(msgspec.structs.replace(rule, id=hashlib.sha256(text).hexdigest()[:16]))
    return tuple(numbered)
