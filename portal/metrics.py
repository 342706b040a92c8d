"""Metrics: the node's figures for Prometheus, read when asked."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from portal.node import Node

Metric = CounterMetricFamily | GaugeMetricFamily


class NodeCollector(Collector):
    """Reads a node and its RADIUS server's counters."""

    def __init__(self, node: Node, radius: Mapping[str, int]):
        self._node = node
        self._radius = radius

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        packets = CounterMetricFamily(
            "pesisir_radius_packets", "RADIUS packets by what became of them", labels=["what"]
        )
        for what, count in self._radius.items():
            packets.add_metric([what], count)
        yield packets
        node = self._node
        yield _gauge("pesisir_sessions_open", "Open sessions", len(node.sessions))
        yield _gauge("pesisir_accounts_loaded", "Accounts in memory", len(node.accounts))
        commits = CounterMetricFamily("pesisir_commits", "Group commits", labels=["outcome"])
        commits.add_metric(["committed"], node.commit.commits)
        commits.add_metric(["failed"], node.commit.failures)
        yield commits
        yield _gauge("pesisir_disk_free_octets", "Free disk space", node.disk.free_octets())
        yield _gauge("pesisir_disk_full", "Logins wait for room on the disk", node.disk.is_full)
        yield _gauge("pesisir_clock_doubtful", "The clock is in doubt", node.clock.is_doubtful)
        if node.backhaul.state != "unknown":
            is_up = node.backhaul.state == "up"
            yield _gauge("pesisir_backhaul_up", "The site's link works", is_up)
        heard = GaugeMetricFamily(
            "pesisir_gateway_silent_seconds", "Since a gateway's last packet", labels=["gateway"]
        )
        for gateway_id, heard_s in node.aaa.heard_s.items():
            gateway = node.admin.gateways_by_id.get(gateway_id)
            if gateway is not None:
                heard.add_metric([gateway.name], node.elapsed_s() - heard_s)
        yield heard


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=float(value))
