"""The reference of metrics says exactly what the catalogue says, and the how-to names the alerts that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from ruamel.yaml import YAML

from hostward.cli.configuration import AgentMetricsConfig
from hostward.export.metrics.catalogue import AGENT, BUILD, CONTROLLER, Metric

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()
HOWTO = (ROOT / "docs/howto/watch-with-prometheus.md").read_text()
CONFIGURATION = (ROOT / "docs/reference/configuration.md").read_text()
RULES = ROOT / "packaging/prometheus/hostward.rules.yml"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.meaning} |"


def test_every_metric_is_documented_in_its_own_words_and_none_that_there_is_not() -> None:
    rows = [line for line in REFERENCE.splitlines() if line.startswith("| `hostward_")]
    assert rows == [_row(metric) for metric in (*AGENT, *CONTROLLER, BUILD)]


def test_every_metric_stands_on_the_agents_or_the_controllers_list() -> None:
    from hostward.export.metrics import catalogue

    declared = {value for value in vars(catalogue).values() if isinstance(value, Metric)}
    assert declared == {BUILD, *AGENT, *CONTROLLER}
    assert len(catalogue.EVERY) == len(declared)


def test_every_alert_has_words_and_stands_in_the_how_to_or_explains_itself() -> None:
    groups = YAML(typ="safe").load(RULES)["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert len(alerts) == sum(len(group["rules"]) for group in groups)
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), name
        assert rule["annotations"]["summary"], name
    assert set(re.findall(r"Hostward[A-Z]\w+", HOWTO)) <= alerts.keys()


@pytest.mark.parametrize("page", [HOWTO, CONFIGURATION])
def test_the_settings_shown_are_settings(page: str) -> None:
    blocks = re.findall(r"^```toml\n(\[metrics\]\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        msgspec.convert(tomllib.loads(block)["metrics"], AgentMetricsConfig, dec_hook=lambda kind, value: kind(value))


def test_every_setting_is_described() -> None:
    section = CONFIGURATION.partition("## Metrics")[2].partition("\n## ")[0]
    for setting in AgentMetricsConfig.__struct_fields__:
        assert f"`{setting}`" in section
