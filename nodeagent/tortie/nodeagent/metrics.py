"""Gauges that are read when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tortie.nodeagent.agent import Agent
from tortie.nodeagent.watch import Watches


class AgentCollector(Collector):
    def __init__(self, agent: Agent, watches: Watches) -> None:
        self._agent = agent
        self._watches = watches

    def describe(self) -> Iterator[Metric]:
        """None in advance: collecting needs a running agent."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily("tortie_watch_connected", "1 while the watch is open", labels=["kind"])
        lag = GaugeMetricFamily(
            "tortie_watch_lag_seconds", "Since the watch last said anything, bookmarks included", labels=["kind"]
        )
        waiting = GaugeMetricFamily(
            "tortie_objects_waiting", "Objects that wait for what their stamp (spec.after) names", labels=["kind"]
        )
        adopted = GaugeMetricFamily("tortie_objects_adopted", "Objects that rule", labels=["kind"])
        now = time.monotonic()
        for kind, informer in self._watches.informers.items():
            connected.add_metric([kind], float(informer.connected))
            lag.add_metric([kind], now - informer.last_event)
        for kind, stream in self._agent.adoption.streams.items():
            waiting.add_metric([kind], len(stream.waiting))
            adopted.add_metric([kind], len(stream.adopted))
        endpoints = GaugeMetricFamily("tortie_endpoints", "Local endpoints in the kernel", labels=["state"])
        applied = self._agent.applied
        endpoints.add_metric(["OPEN"], len(applied.opened))
        endpoints.add_metric(["PENDING"], len(applied.records) - len(applied.opened))
        errors = GaugeMetricFamily("tortie_errors", "Items that are not as they should be")
        errors.add_metric([], len(self._agent.errors))
        yield from (connected, lag, waiting, adopted, endpoints, errors)
