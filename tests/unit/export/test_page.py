"""A page is what Prometheus' own parsers read, and its names are as Prometheus' naming rules want them."""

from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hostward.export.metrics import catalogue
from hostward.export.metrics.catalogue import EVERY, Kind, Metric
from hostward.export.metrics.durations import BOUNDS_S, Durations
from hostward.export.metrics.page import Page

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _full_page() -> Page:
    page = Page()
    for metric in EVERY:
        if metric.kind is Kind.HISTOGRAM:
            durations = Durations()
            durations.add(0.02)
            durations.add(1e9)
            page.add_durations(metric, durations)
        else:
            page.add(metric, 3, *('a "quoted"\\\nlabel' for _ in metric.labels))
    return page


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_names_follow_prometheus_rules(metric: Metric) -> None:
    assert re.fullmatch(r"hostward_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not re.search(r"_(ms|milliseconds|kb|percent|count|sum|bucket)(_|$)", metric.name)
    if metric.kind is Kind.HISTOGRAM:
        assert metric.name.endswith("_seconds")
    assert metric.meaning.endswith(".")
    assert set(metric.labels) <= {
        "reason", "table", "tenant", "endpoint", "state", "kind", "host", "operation", "status", "part", "version",
        "outcome", "treatment", "to", "where"
    }  # fmt: skip


def test_no_metric_is_named_twice() -> None:
    assert len({metric.name for metric in EVERY}) == len(EVERY)


def test_the_text_is_parsed_as_it_was_meant() -> None:
    text, content_type = _full_page().written("")
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    for metric in EVERY:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.value, metric.meaning)
    (sample,) = families["hostward_repairs"].samples
    assert sample.labels == {"kind": 'a "quoted"\\\nlabel'}
    assert sample.value == 3


def test_openmetrics_is_written_where_it_is_asked_for() -> None:
    text, content_type = _full_page().written(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert {family.name for family in openmetrics.text_string_to_metric_families(text.decode())} >= {
        metric.name.removesuffix("_total") for metric in EVERY
    }


def test_a_value_needs_exactly_its_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        Page().add(catalogue.DENIED, 1)


def test_durations_count_into_cumulative_buckets() -> None:
    durations = Durations()
    for seconds in (0.005, 0.006, 70.0, -1.0):
        durations.add(seconds)
    buckets = dict(durations.cumulative())
    assert (buckets["0.005"], buckets["0.01"], buckets["60.0"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert durations.sum_s == pytest.approx(70.011)
    assert len(buckets) == len(BOUNDS_S) + 1
