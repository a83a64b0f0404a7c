"""What the programs count and how full their maps are, read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tortie.nodeagent.maps.layout import (
    COUNTER,
    DROPS,
    ENDPOINTS,
    FORMAT,
    NODES,
    PASSED,
    PROGRAMS,
    REASONS,
    array_key,
    drops_key,
)
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.table import Table


class DatapathCollector(Collector):
    """Without samples until the programs are loaded; from then on every reason has one, so that rates start at zero."""

    def __init__(self, bpffs: Path) -> None:
        self._pins = Pins(bpffs)

    def describe(self) -> Iterator[Metric]:
        """None in advance: collecting needs the maps."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Raises OSError."""
        try:
            yield from self._drops()
            yield from self._passed()
            yield from self._fill()
        except FileNotFoundError:
            return

    def _drops(self) -> Iterator[Metric]:
        labels = ["hook", "reason"]
        packets = CounterMetricFamily("tortie_dropped_packets", "Packets dropped at a pod's veth", labels=labels)
        size = CounterMetricFamily("tortie_dropped_bytes", "Bytes of dropped packets", labels=labels)
        with self._pins.table(DROPS) as table:
            for hook in PROGRAMS:
                for reason, label in REASONS.items():
                    counted = total(table, drops_key(hook, reason))
                    packets.add_metric([hook, label], counted[0])
                    size.add_metric([hook, label], counted[1])
        yield from (packets, size)

    def _passed(self) -> Iterator[Metric]:
        packets = CounterMetricFamily("tortie_passed_packets", "Packets let through at a pod's veth", labels=["hook"])
        size = CounterMetricFamily("tortie_passed_bytes", "Bytes of packets let through", labels=["hook"])
        with self._pins.table(PASSED) as table:
            for number, hook in enumerate(PROGRAMS):
                counted = total(table, array_key(number))
                packets.add_metric([hook], counted[0])
                size.add_metric([hook], counted[1])
        yield from (packets, size)

    def _fill(self) -> Iterator[Metric]:
        entries = GaugeMetricFamily("tortie_map_entries", "Entries of an eBPF map", labels=["map"])
        most = GaugeMetricFamily("tortie_map_max_entries", "Entries that an eBPF map has room for", labels=["map"])
        for name in (ENDPOINTS, NODES):
            with self._pins.table(name) as table:
                label = name.removesuffix(f"_v{FORMAT}")
                entries.add_metric([label], sum(1 for _ in table.items()))
                most.add_metric([label], table.max_entries)
        yield from (entries, most)


def total(table: Table, key: bytes) -> tuple[int, int]:
    """Packets and bytes over all CPUs."""
    values = list(COUNTER.iter_unpack(table.get(key) or b""))
    return sum(packets for packets, _ in values), sum(size for _, size in values)
