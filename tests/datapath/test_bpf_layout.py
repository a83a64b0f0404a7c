"""layout.py and marks.py say the same as the headers and as what the compiler made of them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tortie.nodeagent import marks
from tortie.nodeagent.maps import layout, table
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.policy import kinds
from tortie.nodeagent.policy.image import DIRECTIONS, MOST_ATOMS, Side

HEADERS = Path(__file__).parents[2] / "nodeagent" / "bpf"


def header(name: str) -> str:
    return (HEADERS / name).read_text()


def defined(text: str, name: str) -> int:
    found = re.search(rf"#define {name} (\w+)", text)
    assert found, name
    return int(found[1].rstrip("u"), 0)


def enumerated(text: str, prefix: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(rf"\b({prefix}\w*) = (\d+),", text)}


def test_drop_reasons_are_those_of_the_header() -> None:
    found = re.findall(r'X\((\d+), (\w+), "([a-z-]+)"\)', header("drops.h"))
    assert {int(number): label for number, _, label in found} == layout.REASONS
    assert all(name.lower().replace("_", "-") == label for _, name, label in found)
    assert defined(header("drops.h"), "DROP_REASONS_ROOM") == layout.REASONS_ROOM > max(layout.REASONS)


def test_states_hooks_and_format_are_those_of_the_header() -> None:
    text = header("maps.h")
    assert enumerated(text, "STATE_") == {f"STATE_{name}": number for name, number in layout.STATES.items()}
    hooks = {name: number for number, name in enumerate(layout.PROGRAMS)}
    assert enumerated(text, "FROM_POD") | enumerated(text, "TO_POD") == {n.upper(): v for n, v in hooks.items()}
    assert defined(text, "FORMAT") == layout.FORMAT


def test_numbers_of_policy_are_those_of_the_header() -> None:
    text = header("policymaps.h")
    found = {name.removeprefix("ACTION_").capitalize(): n for name, n in enumerated(text, "ACTION_").items()}
    assert found == layout.ACTIONS
    assert (defined(text, "CLASS_MISSING"), defined(text, "CLASS_UNKNOWN")) == (layout.MISSING, layout.UNKNOWN)
    assert (defined(text, "LINE_ATOMS"), defined(text, "MOST_LINES")) == (layout.LINE_ATOMS, layout.MOST_LINES)
    assert layout.LINE_ATOMS * layout.MOST_LINES == MOST_ATOMS
    assert defined(text, "UNCONSTRAINED") == layout.UNCONSTRAINED
    rows = [defined(text, f"KINDS_OF_{name}") for name in ("TCP", "UDP", "SCTP", "ICMP", "ICMP6", "OTHERS")]
    assert rows == [*kinds.ROWS.values(), kinds.OTHERS]
    assert list(enumerated(text, "INGRESS") | enumerated(text, "EGRESS")) == [name.upper() for name in DIRECTIONS]


def test_marks_are_those_of_the_header() -> None:
    text = header("marks.h")
    ours = {name: getattr(marks, name) for name in ("MASK", "SEEN", "OWN_HOST", "JUDGED")}
    assert {name: defined(text, f"MARK_{name}") for name in re.findall(r"#define MARK_(\w+)", text)} == ours
    assert all(mark & ~marks.MASK == 0 for mark in ours.values())
    single = [mark for name, mark in ours.items() if name != "MASK"]
    assert all(mark.bit_count() == 1 for mark in single)
    assert len(set(single)) == len(single)


def test_each_program_is_a_file_that_holds_a_function_of_its_name(bpf_dir: Path) -> None:
    assert {path.name.removesuffix(".bpf.o") for path in bpf_dir.glob("*.bpf.o")} == set(layout.PROGRAMS)
    assert {path.name.removesuffix(".bpf.c") for path in HEADERS.glob("*.bpf.c")} == set(layout.PROGRAMS)


def test_structs_are_packed_as_the_compiler_packs_them(bpf_dir: Path) -> None:
    dump = ["bpftool", "-j", "btf", "dump", "file", bpf_dir / "from_pod.bpf.o"]
    types = json.loads(subprocess.run(dump, check=True, capture_output=True, text=True).stdout)["types"]
    structs = {t["name"]: t for t in types if t["kind"] == "STRUCT"}

    def offsets(name: str) -> dict[str, int]:
        return {m["name"]: m["bits_offset"] // 8 for m in structs[name]["members"]}

    assert offsets("endpoint") == {"state": 0, "ipv4": 4, "ipv6": 8, "mac": 24, "flags": 30}
    assert structs["endpoint"]["size"] == layout.ENDPOINT.size
    value = layout.endpoint_value("OPEN", "1.2.3.4", "102:304:506:708:90a:b0c:d0e:f10", "a1:a2:a3:a4:a5:a6")
    assert value.hex() == "02000000010203040102030405060708090a0b0c0d0e0f10a1a2a3a4a5a60000"
    assert offsets("counter") == {"packets": 0, "bytes": 8}
    assert structs["counter"]["size"] == layout.COUNTER.size
    assert offsets("words") == {"word": 0}
    assert structs["words"]["size"] == layout.WORDS.size
    sides = {"source": 0, "destination": 4, "kind": 8, "source_kind": 12}
    assert offsets("stack") == sides | {"atoms": 16, "count": 20, "unused": 24}
    assert [side.name.lower() for side in Side] == list(sides)
    assert structs["stack"]["size"] == layout.STACK.size
    assert offsets("row") == {"mask": 0, "first": 8, "present": 12}
    assert structs["row"]["size"] == layout.ROW.size
    assert structs["line"]["size"] == layout.LINE
    assert offsets("atom") == {"action": 0, "next": 2, "rule": 4, "id": 8}
    assert structs["atom"]["size"] == layout.ATOM.size
    assert offsets("net4") == {"length": 0, "address": 4}
    assert layout.net_key("10.1.2.0/24").hex() == "18000000" + "0a010200"
    assert offsets("conn_key") == {"a": 0, "b": 16, "port_a": 32, "port_b": 34, "protocol": 36, "zero": 37}
    assert structs["conn_key"]["size"] == layout.CONN_KEY.size
    assert offsets("conn") == {
        "expires": 0, "created": 8, "epoch": 16, "rule": 24, "format": 32, "flags": 33, "tcp": 34, "zero": 35,
        "service": 36, "to": 40, "port": 56, "zeros": 58, "counter": 64,
    }  # fmt: skip
    assert structs["conn"]["size"] == layout.CONN.size


def test_maps_are_named_and_sized_as_layout_says(bpf_dir: Path, bpffs: Path) -> None:
    pins = Pins(bpffs)
    for name in layout.PROGRAMS:
        pins.load(name, (bpf_dir / f"{name}.bpf.o").read_bytes())
    assert set(pins.map_ids()) == set(layout.MAPS)
    sizes = {}
    for name in layout.MAPS:
        with pins.table(name) as each:
            assert each.name == name
            sizes[name] = each.key_size, each.value_size
            assert layout.ENTRIES.get(name, each.max_entries) == each.max_entries
    value = layout.endpoint_value("PENDING", "", "", "02:00:00:00:00:01")
    assert sizes == {
        layout.ENDPOINTS: (len(layout.endpoint_key(1)), len(value)),
        layout.NODES: (len(layout.node_key("192.0.2.1")), len(layout.MEMBER)),
        layout.DROPS: (len(layout.array_key(0)), layout.COUNTER.size * table.cpus()),
        layout.PASSED: (len(layout.array_key(0)), layout.COUNTER.size * table.cpus()),
        layout.SWITCH: (4, layout.CLASSES.size),
        layout.POLICIES: (4, layout.WORDS.size),
        layout.ADDRESSES[4]: (4, layout.CLASSES.size),
        layout.ADDRESSES[6]: (16, layout.CLASSES.size),
        layout.NETS[4]: (len(layout.net_key("10.0.0.0/8")), layout.CLASSES.size),
        layout.NETS[6]: (len(layout.net_key("fd00::/8")), layout.CLASSES.size),
        layout.KINDS: (4, layout.CLASSES.size),
        layout.STACKS: (4, layout.STACK.size),
        layout.ROWS: (4, layout.ROW.size),
        layout.LINES: (4, layout.LINE),
        layout.ATOMS: (4, layout.ATOM.size),
        layout.RULES: (4, layout.COUNTER.size * table.cpus()),
        layout.CONNS: (layout.CONN_KEY.size, layout.CONN.size),
        layout.FRAGMENTS: (40, 8),
    }
    assert layout.node_key("192.0.2.1").hex() == "00000000000000000000ffffc0000201"
    assert layout.node_key("2001:db8::1").hex() == "20010db8000000000000000000000001"


@pytest.mark.parametrize(("ipv4", "mac"), [("10.0.0.300", "02:00:00:00:00:01"), ("10.0.0.3", "02:zz")])
def test_what_is_no_address_is_refused(ipv4: str, mac: str) -> None:
    with pytest.raises(ValueError, match=r"300|non-hex"):
        layout.endpoint_value("OPEN", ipv4, "", mac)
