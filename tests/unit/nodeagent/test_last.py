"""The copy on disk: whole, in time, and enough for a restart."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from tortie.api.internal import NodePeer, NodePeerSpec
from tortie.api.meta import Metadata
from tortie.nodeagent.adoption import KINDS, Adoption, Gone, Listed, Passed, Put
from tortie.nodeagent.last import LastObjects


def peer(version: int, after: dict[str, int], name: str = "n") -> NodePeer:
    meta = Metadata(name=name, resource_version=str(version))
    return NodePeer(metadata=meta, spec=NodePeerSpec(uid=str(version), after=after))


def filled() -> Adoption:
    adoption = Adoption()
    for kind in KINDS:
        adoption.take(kind, Listed({}, 5))
    adoption.take("nodepeers", Put(peer(6, {}), 6))
    adoption.take("nodepeers", Put(peer(7, {"compiledpolicies": 9}), 7))
    return adoption


async def test_what_rules_and_what_waits_survives(tmp_path: Path) -> None:
    adoption, last = filled(), LastObjects(tmp_path / "last.db")
    task = asyncio.create_task(last.run(adoption.streams))
    for kind in KINDS:
        last.touch(kind)
    await last.saved()
    # What is saved is there without a proper end of the process.
    again = Adoption(LastObjects(tmp_path / "last.db").load())
    assert again.complete
    assert again.streams == adoption.streams
    task.cancel()
    await asyncio.wait([task])


async def test_each_write_leaves_what_the_streams_hold(tmp_path: Path) -> None:
    rng = random.Random(7)
    adoption, last = filled(), LastObjects(tmp_path / "last.db")
    task = asyncio.create_task(last.run(adoption.streams))
    for kind in KINDS:
        last.touch(kind)
    for version in range(10, 60):
        name = rng.choice("abc")
        if rng.random() < 0.3:
            adoption.take("nodepeers", Gone(name, version))
        else:
            after = {"compiledpolicies": version + rng.randint(-9, 3)}
            adoption.take("nodepeers", Put(peer(version, after, name), version))
        adoption.take("compiledpolicies", Passed(version - rng.randint(0, 5)))
        last.touch("compiledpolicies")
        last.touch("nodepeers")
        await last.saved()
        assert LastObjects(tmp_path / "last.db").load() == adoption.streams
    task.cancel()
    await asyncio.wait([task])


async def test_the_last_change_is_written_at_exit(tmp_path: Path) -> None:
    adoption, last = filled(), LastObjects(tmp_path / "last.db")
    task = asyncio.create_task(last.run(adoption.streams))
    last.touch("nodepeers")
    await last.saved()
    adoption.take("nodepeers", Put(peer(8, {}), 8))
    last.touch("nodepeers")
    task.cancel()
    await asyncio.wait([task])
    assert LastObjects(tmp_path / "last.db").load()["nodepeers"].adopted["n"].metadata.version == 8


async def test_a_kind_that_was_never_listed_is_not_kept(tmp_path: Path) -> None:
    last = LastObjects(tmp_path / "last.db")
    task = asyncio.create_task(last.run(Adoption().streams))
    last.touch("nodepeers")
    await last.saved()
    task.cancel()
    await asyncio.wait([task])
    assert not Adoption(LastObjects(tmp_path / "last.db").load()).complete


async def test_a_write_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tortie.nodeagent.last.RETRY", 0.05)
    adoption, last = filled(), LastObjects(tmp_path / "last.db")
    other = sqlite3.connect(tmp_path / "last.db", timeout=0)
    last._database.execute("PRAGMA busy_timeout = 0")
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(last.run(adoption.streams))
    last.touch("nodepeers")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(last.saved(), 0.2)
    other.rollback()
    await asyncio.wait_for(last.saved(), 5)
    assert LastObjects(tmp_path / "last.db").load()["nodepeers"] == adoption.streams["nodepeers"]
    task.cancel()
    await asyncio.wait([task])


def test_a_damaged_file_counts_as_absent_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "last.db").write_bytes(b"no database at all" * 1000)
    assert not LastObjects(tmp_path / "last.db").load()["nodepeers"].complete
    last = LastObjects(tmp_path / "last.db")
    last.touch("nodepeers")
    last.save(filled().streams)
    assert LastObjects(tmp_path / "last.db").load()["nodepeers"].complete
