"""Access to maps of every kind that the datapath has or will have."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tortie.nodeagent.maps.libbpf import opened
from tortie.nodeagent.maps.pins import Pins, build, used
from tortie.nodeagent.maps.table import BATCH, Table, cpus

from .objects import compiled

MAP = """
struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, {entries}); __uint(key_size, {key});
         __uint(value_size, {value}); __uint(map_flags, {flags}); __uint(pinning, LIBBPF_PIN_BY_NAME);
}} {name} SEC(".maps");
"""
MAPS = {
    # name: kind, entries, bytes of a key, of a value, flags
    "hash": ("HASH", 50000, 13, 5, 0),
    "lazy": ("HASH", 50000, 16, 8, 1),  # BPF_F_NO_PREALLOC
    "array": ("ARRAY", 3000, 4, 8, 0),
    "percpu": ("PERCPU_ARRAY", 3000, 4, 12, 0),
    "percpuhash": ("PERCPU_HASH", 3000, 6, 8, 0),
    "trie": ("LPM_TRIE", 5000, 20, 4, 1),
}
PROGRAM = 'SEC("tc") int reader(struct __sk_buff *skb) {{ __u32 k[5] = {{}}; return {lookups} ? 2 : -1; }}'


@pytest.fixture
def pins(tmp_path: Path, bpffs: Path) -> Pins:
    """A program `reader` over all of them."""
    declared = "".join(
        MAP.format(name=name, kind=kind, entries=entries, key=key, value=value, flags=flags)
        for name, (kind, entries, key, value, flags) in MAPS.items()
    )
    lookups = " || ".join(f"bpf_map_lookup_elem(&{name}, k)" for name in MAPS)
    compiled(declared + PROGRAM.format(lookups=lookups), tmp_path / "reader.o")
    made = Pins(bpffs)
    made.load("reader", (tmp_path / "reader.o").read_bytes())
    return made


def key(table: Table, number: int) -> bytes:
    """Distinct, and of a trie a net of 128 bits."""
    if table.name == "trie":
        return struct.pack("=I", 128) + number.to_bytes(16, "big")
    return number.to_bytes(table.key_size, "little")


@pytest.mark.parametrize("name", MAPS)
def test_what_is_put_is_read_and_listed(pins: Pins, name: str) -> None:
    with pins.table(name) as table:
        count = min(table.max_entries, 2 * BATCH + 7)
        wanted = {key(table, n): os.urandom(table.value_size) for n in range(count)}
        for each, value in wanted.items():
            table.put(each, value)
        found = dict(table.items())
        if name == "percpu":  # 12 bytes, padded to 16: the kernel keeps no padding
            found, wanted = ({k: unpadded(v) for k, v in content.items()} for content in (found, wanted))
        assert {each: found[each] for each in wanted} == wanted
        assert len(found) == (table.max_entries if "array" in name or name == "percpu" else count)
        each = key(table, 5)
        assert (unpadded(table.get(each) or b"") if name == "percpu" else table.get(each)) == wanted[each]


def unpadded(value: bytes) -> bytes:
    return b"".join(value[at : at + 12] for at in range(0, len(value), 16))


@pytest.mark.parametrize("name", ["hash", "lazy", "percpuhash", "trie"])
def test_what_is_deleted_is_gone_and_deleting_again_is_nothing(pins: Pins, name: str) -> None:
    with pins.table(name) as table:
        table.put(key(table, 1), bytes(table.value_size))
        table.put(key(table, 2), bytes(table.value_size))
        table.delete(key(table, 1))
        table.delete(key(table, 1))
        assert table.get(key(table, 1)) is None
        assert [each for each, _ in table.items()] == [key(table, 2)]


@pytest.mark.parametrize("name", ["hash", "lazy", "percpuhash", "trie"])
def test_an_empty_map_lists_nothing(pins: Pins, name: str) -> None:
    with pins.table(name) as table:
        assert list(table.items()) == []


def test_a_full_map_says_so(pins: Pins) -> None:
    with pins.table("percpuhash") as table:
        for number in range(table.max_entries):
            table.put(key(table, number), bytes(table.value_size))
        with pytest.raises(OSError, match="map percpuhash is full: 3000 entries"):
            table.put(key(table, table.max_entries), bytes(table.value_size))


def test_keys_and_values_of_a_wrong_size_are_refused(pins: Pins) -> None:
    with pins.table("hash") as table:
        with pytest.raises(ValueError, match="map hash: a key has 13 bytes, not 4"):
            table.get(bytes(4))
        with pytest.raises(ValueError, match="map hash: a value has 5 bytes, not 8"):
            table.put(bytes(13), bytes(8))
        with pytest.raises(ValueError, match="map hash: a key has 13 bytes, not 14"):
            table.delete(bytes(14))


def test_a_value_of_a_per_cpu_map_holds_one_of_each_cpu(pins: Pins) -> None:
    with pins.table("percpuhash") as table:
        assert table.value_size == 8 * cpus()
        values = struct.pack(f"={cpus()}Q", *range(1, cpus() + 1))
        table.put(key(table, 1), values)
        assert table.get(key(table, 1)) == values


def test_an_entry_that_is_not_pinned_is_named(pins: Pins) -> None:
    with pytest.raises(FileNotFoundError, match=r"opening .*/maps/nothing"):
        pins.table("nothing")


def test_a_program_names_the_maps_that_it_uses(pins: Pins, tmp_path: Path) -> None:
    its_build = build((tmp_path / "reader.o").read_bytes())
    with pins.program("reader", its_build) as program:
        number, maps = used(program)
    assert dict(maps) == pins.map_ids()
    assert [(p.name, p.build, p.id) for p in pins.loaded()] == [("reader", its_build, number)]


def test_what_is_opened_is_closed(pins: Pins) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        pins.map_ids()
        pins.loaded()
        with pins.table("hash") as table:
            list(table.items())
        os.close(opened(pins.maps / "hash"))
    assert len(os.listdir("/proc/self/fd")) == before
