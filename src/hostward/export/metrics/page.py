"""One scrape's answer: values by metric, written in the form that the asker takes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from hostward.export.metrics.catalogue import Kind, Metric
from hostward.export.metrics.durations import Durations

# This process's CPU, memory and descriptors, by the names that every exporter uses.
_process = ProcessCollector(registry=None)


class Page:
    """Values are added, then it is written once. Parts of one process write onto the same page."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """One value; ``labels`` in the order of the metric's."""
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
        family = self._family(metric)
        assert isinstance(family, (CounterMetricFamily, GaugeMetricFamily))
        family.add_metric(labels, value)

    def add_durations(self, metric: Metric, durations: Durations) -> None:
        """A histogram without labels."""
        family = self._family(metric)
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric((), durations.cumulative(), durations.sum_s)

    def collect(self) -> Iterable[Family]:
        """What prometheus_client asks of a collector."""
        yield from self._families.values()
        yield from _process.collect()

    def written(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics if ``accept`` names it, else Prometheus' own text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Written(self))
        encoder, content_type = choose_encoder(accept)
        return encoder(registry), content_type

    def _family(self, metric: Metric) -> Family:
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = _new_family(metric)
        return family


class _Written:
    """A collector that describes nothing beforehand: registering it must not collect it once more."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterable[Family]:
        return self._page.collect()


def _new_family(metric: Metric) -> Family:
    match metric.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(metric.name.removesuffix("_total"), metric.meaning, labels=metric.labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
