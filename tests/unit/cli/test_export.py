"""The flow records' part of the `[export]` table of an agent's configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostward.cli.configuration import AgentConfig, ExportConfig, read_config
from hostward.datapath.flow_export import FlowExportSettings
from hostward.errors import UsageError

REFERENCE = Path(__file__).parents[3] / "docs/reference/configuration.md"


def _records(folder: Path, text: str) -> FlowExportSettings | None:
    file = folder / "agent.toml"
    file.write_text(f'controller = "h:1"\n[export]\n{text}\n')
    return read_config(file, AgentConfig).export.flow_records()


def test_without_a_collector_and_a_file_nothing_is_exported(tmp_path: Path) -> None:
    assert _records(tmp_path, "active_timeout_s = 30.0") is None


def test_a_collector_and_a_file(tmp_path: Path) -> None:
    found = _records(
        tmp_path, 'ipfix = "[2001:db8::5]:4739"\nipfix_template = "standard"\njson_lines = "/x/flows.json"'
    )
    assert found is not None
    assert (found.collector, found.standard, found.json_lines) == (("2001:db8::5", 4739), True, Path("/x/flows.json"))


@pytest.mark.parametrize("text", ['ipfix = "collector"', 'ipfix_template = "short"', 'ipfix = "h:70000"', "domain = 3"])
def test_what_is_no_setting_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        _records(tmp_path, text)


def test_an_endpoints_own_quota_counts_where_it_is_more() -> None:
    settings = FlowExportSettings(events_per_s=1_000)
    assert settings.events_of(64, 256) == (1_000, 256)
    assert settings.events_of(64, 10) == (1_000, 100)
    assert settings.events_of(5_000, 9_000) == (5_000, 9_000)


def test_every_setting_of_flow_records_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)`", REFERENCE.read_text().partition("### Export")[2], re.MULTILINE))
    wanted = {name for name in ExportConfig.__struct_fields__ if not name.startswith("sflow")}
    assert wanted <= described
