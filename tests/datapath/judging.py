"""The real programs over maps of their own, judging single packets by test-run."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.maps.libbpf import opened
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.policy import PolicyMaps
from tortie.nodeagent.maps.table import Table
from tortie.nodeagent.maps.testrun import Result, run
from tortie.nodeagent.policy.columns import Columns
from tortie.nodeagent.policy.image import Image

DEVICE = 1
"""`lo`: a test run takes the ifindex of a device that is there."""
SHOT, UNSPEC = 2, -1
NAMES = (layout.ENDPOINTS, layout.CONNS, layout.DROPS, layout.FRAGMENTS)


@dataclass
class Judge:
    programs: dict[str, int]
    pins: Pins
    maps: PolicyMaps
    endpoints: Table
    conns: Table
    drops: Table
    fragments: Table
    columns: Columns

    def endpoint(self, ipv4: str = "", ipv6: str = "", state: str = "OPEN") -> None:
        """Whose device DEVICE is."""
        value = layout.endpoint_value(state, ipv4, ipv6, "02:00:00:00:00:01")  # type: ignore[arg-type]
        self.endpoints.put(layout.endpoint_key(DEVICE), value)

    def enforce(self, image: Image, device: str) -> None:
        change = self.columns.change(image, {device: DEVICE})
        self.maps.make([*change.writes, *change.afterwards])

    def forget_flows(self) -> None:
        self.conns.delete_all([key for key, _ in self.conns.items()])

    def adopt(self) -> None:
        """As a restarted agent does."""
        with self.maps.arrays() as arrays:
            self.columns = Columns.adopted(arrays, self.maps.hashes())

    def run(self, program: str, frame: bytes, mark: int = 0) -> Result:
        return run(self.programs[program], frame, ifindex=DEVICE, mark=mark)

    def dropped(self) -> dict[tuple[str, str], int]:
        """(hook, reason) → packets."""
        found = {}
        for program in (FROM_POD, TO_POD):
            for number, reason in layout.REASONS.items():
                values = layout.COUNTER.iter_unpack(self.drops.get(layout.drops_key(program, number)) or b"")
                found[program, reason] = sum(packets for packets, _ in values)
        return found

    def reason(self, program: str, frame: bytes, mark: int = 0) -> str:
        """Why a frame is dropped; empty: it passes."""
        before = self.dropped()
        result = self.run(program, frame, mark)
        moved = [reason for (hook, reason), count in self.dropped().items() if count != before[hook, reason]]
        assert result.verdict == (SHOT if moved else UNSPEC)
        return moved[0] if moved else ""

    def rule(self, slot: int) -> str:
        """Id of the rule whose counter that is."""
        return next((name for name, known in self.columns.placer.slots.items() if known == slot), "")


@contextlib.contextmanager
def judge(bpf_dir: Path, bpffs: Path) -> Iterator[Judge]:
    """On a bpffs that is mounted and unmounted here."""
    subprocess.run(["mount", "-t", "bpf", "bpf", bpffs], check=True)
    try:
        with contextlib.ExitStack() as stack:
            pins = Pins(bpffs)
            for name in layout.PROGRAMS:
                pins.load(name, (bpf_dir / f"{name}.bpf.o").read_bytes())
            programs = {each.name: opened(pins.programs / each.pin) for each in pins.loaded()}
            for fd in programs.values():
                stack.callback(os.close, fd)
            maps = PolicyMaps(pins)
            stack.callback(maps.close)
            tables = [stack.enter_context(pins.table(name)) for name in NAMES]
            yield Judge(programs, pins, maps, *tables, Columns())
    finally:
        subprocess.run(["umount", bpffs], check=True)
