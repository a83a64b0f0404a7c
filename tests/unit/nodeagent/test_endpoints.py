"""The endpoint store: files that outlive the agent."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore

RECORD = EndpointRecord(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/c1",
    namespace="d",
    name="web",
    uid="u1",
    host_ifname="cali1",
    host_ifindex=11,
    pod_mac="aa:bb:cc:00:00:01",
    addresses=("10.0.0.2",),
    mtu=1430,
    created=2.0,
)


def test_records_survive_a_restart(tmp_path: Path) -> None:
    store = EndpointStore.load(tmp_path / "endpoints")
    earlier = msgspec.structs.replace(RECORD, container_id="c0", uid="u0", created=1.0)
    store.put(RECORD)
    store.put(earlier)
    again = EndpointStore.load(tmp_path / "endpoints")
    assert again.by_pod("d", "web") == (earlier, RECORD)
    assert again.get("c1", "eth0") == RECORD
    assert again.remove("c1", "eth0") == RECORD
    assert again.remove("c1", "eth0") is None
    assert EndpointStore.load(tmp_path / "endpoints").all() == (earlier,)


def test_listeners_hear_of_every_change(tmp_path: Path) -> None:
    store = EndpointStore.load(tmp_path)
    heard: list[int] = []
    store.listeners.append(lambda: heard.append(len(store.all())))
    store.put(RECORD)
    store.remove("c1", "eth0")
    store.remove("c1", "eth0")
    assert heard == [1, 0]


def test_a_damaged_file_is_left_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "c9-eth0.json").write_text("{")
    assert EndpointStore.load(tmp_path).all() == ()
    assert (tmp_path / "c9-eth0.json").exists()


def test_what_a_killed_agent_was_writing_is_removed(tmp_path: Path) -> None:
    EndpointStore.load(tmp_path).put(RECORD)
    (tmp_path / ".c2-eth0.json.77.new").write_text("{")
    assert EndpointStore.load(tmp_path).all() == (RECORD,)
    assert [path.name for path in tmp_path.iterdir()] == ["c1-eth0.json"]
