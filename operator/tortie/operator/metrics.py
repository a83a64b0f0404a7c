"""Gauges that are read when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tortie.operator.publish import Publisher
from tortie.operator.sources.informers import Informers
from tortie.operator.world import World


class OperatorCollector(Collector):
    def __init__(self, world: World, informers: Informers) -> None:
        self._world = world
        self._informers = informers
        self.publisher: Publisher | None = None
        """While this process leads."""

    def describe(self) -> Iterator[Metric]:
        """None in advance: collecting needs a running operator."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = time.monotonic()
        leader = GaugeMetricFamily("tortie_operator_leader", "1 while this process leads")
        leader.add_metric([], float(self.publisher is not None))
        connected = GaugeMetricFamily("tortie_watch_connected", "1 while the watch is open", labels=["kind"])
        lag = GaugeMetricFamily(
            "tortie_watch_lag_seconds", "Since the watch last said anything, bookmarks included", labels=["kind"]
        )
        for kind, informer in self._informers.informers.items():
            connected.add_metric([kind], float(informer.connected))
            lag.add_metric([kind], now - informer.last_event)
        objects = GaugeMetricFamily("tortie_operator_objects", "Objects known", labels=["kind"])
        for kind, shelf in self._world.shelves.items():
            objects.add_metric([kind], len(shelf))
        arrived = self.publisher.admission.arrived if self.publisher else {}
        waits = [since for pods in arrived.values() for since in pods.values()]
        waiting = GaugeMetricFamily("tortie_operator_pods_waiting", "Scheduled pods without an entry")
        waiting.add_metric([], len(waits))
        oldest = GaugeMetricFamily(
            "tortie_operator_oldest_pod_waiting_seconds", "How long the oldest scheduled pod has been without an entry"
        )
        oldest.add_metric([], now - min(waits) if waits else 0.0)
        yield from (leader, connected, lag, objects, waiting, oldest)
