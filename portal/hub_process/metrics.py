"""Metrics of a hub, for Prometheus: what it took, what it refused, what waits for a person."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Metric = CounterMetricFamily | GaugeMetricFamily


@dataclass(slots=True)
class HubFigures:
    """What has to be read from the store before the collector, which cannot wait, is asked."""

    nodes: dict[str, int] = field(default_factory=dict)
    """Nodes by state."""
    alarms: dict[str, int] = field(default_factory=dict)
    """Alarms that nobody has ended, by kind."""
    silent_nodes: int = 0
    """Active nodes that were not heard for a day."""
    database_octets: int = 0


class HubCollector(Collector):
    """Reads figures and counters."""

    def __init__(self, requests: Mapping[str, int]):
        self._requests = requests
        self.figures = HubFigures()
        self.records = 0
        """Records taken since the start."""

    def count(self, records: int) -> None:
        """Records were taken."""
        self.records += records

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        requests = CounterMetricFamily(
            "pesisir_hub_requests", "Requests of nodes by HTTP status", labels=["status"]
        )
        for status, count in sorted(self._requests.items()):
            requests.add_metric([status], count)
        yield requests
        yield CounterMetricFamily(
            "pesisir_hub_records", "Records taken since the start", value=float(self.records)
        )
        figures = self.figures
        nodes = GaugeMetricFamily("pesisir_hub_nodes", "Nodes by state", labels=["state"])
        for state, count in sorted(figures.nodes.items()):
            nodes.add_metric([state], count)
        yield nodes
        alarms = GaugeMetricFamily(
            "pesisir_hub_alarms", "Alarms that nobody has ended", labels=["kind"]
        )
        for kind, count in sorted(figures.alarms.items()):
            alarms.add_metric([kind], count)
        yield alarms
        yield GaugeMetricFamily(
            "pesisir_hub_nodes_silent",
            "Active nodes not heard for a day",
            value=float(figures.silent_nodes),
        )
        yield GaugeMetricFamily(
            "pesisir_hub_database_octets",
            "Size of the database",
            value=float(figures.database_octets),
        )
