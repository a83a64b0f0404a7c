"""The copy on disk: whole, in time, and enough for a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tortie.api.internal import NodePeer, NodePeerSpec
from tortie.api.meta import Metadata
from tortie.nodeagent.adoption import KINDS, Adoption, Listed, Put
from tortie.nodeagent.last import LastObjects


def peer(version: int, after: dict[str, int]) -> NodePeer:
    meta = Metadata(name="n", resource_version=str(version))
    return NodePeer(metadata=meta, spec=NodePeerSpec(uid=str(version), after=after))


def filled() -> Adoption:
    adoption = Adoption()
    for kind in KINDS:
        adoption.take(kind, Listed({}, 5))
    adoption.take("nodepeers", Put(peer(6, {}), 6))
    adoption.take("nodepeers", Put(peer(7, {"compiledpolicies": 9}), 7))
    return adoption


async def test_what_rules_and_what_waits_survives(tmp_path: Path) -> None:
    adoption, last = filled(), LastObjects(tmp_path)
    task = asyncio.create_task(last.run(adoption.streams))
    for kind in KINDS:
        last.touch(kind)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    again = Adoption(LastObjects(tmp_path).load())
    assert again.complete
    assert again.streams == adoption.streams
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}.json" for kind in KINDS}


async def test_writes_are_coalesced_and_the_last_change_is_written_at_exit(tmp_path: Path) -> None:
    adoption, last = filled(), LastObjects(tmp_path)
    task = asyncio.create_task(last.run(adoption.streams))
    last.touch("nodepeers")
    await asyncio.sleep(0.1)
    first = (tmp_path / "nodepeers.json").stat().st_ino
    adoption.take("nodepeers", Put(peer(8, {}), 8))
    last.touch("nodepeers")
    await asyncio.sleep(0.2)
    assert (tmp_path / "nodepeers.json").stat().st_ino == first
    task.cancel()
    await asyncio.wait([task])
    assert LastObjects(tmp_path).load()["nodepeers"].adopted["n"].metadata.version == 8


async def test_a_kind_that_was_never_listed_is_not_kept(tmp_path: Path) -> None:
    last = LastObjects(tmp_path)
    adoption = Adoption()
    task = asyncio.create_task(last.run(adoption.streams))
    last.touch("nodepeers")
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert not list(tmp_path.iterdir())
    assert not Adoption(last.load()).complete


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "nodepeers.json").write_text('{"position": 3, ')
    assert not LastObjects(tmp_path).load()["nodepeers"].complete
