"""The `[inspector]` table: what the reference describes is what there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from hostward.cli.configuration import AgentConfig, read_config
from hostward.cli.inspector_configuration import InspectorConfig, ProfileConfig
from hostward.errors import UsageError

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference/configuration.md").read_text().partition("### Inspector")[2].partition("\n#")[0]


@pytest.mark.parametrize("setting", [*InspectorConfig.__struct_fields__, *ProfileConfig.__struct_fields__])
def test_every_setting_is_described(setting: str) -> None:
    assert f"`{setting}" in REFERENCE


def test_what_the_how_to_shows_is_taken(tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/detect-intrusions.md").read_text()
    shown = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "agent.toml"
    path.write_text(f'controller = "192.0.2.1:7443"\n{shown}')
    inspector = read_config(path, AgentConfig).inspector
    assert inspector is not None
    settings = inspector.settings(tmp_path)
    assert settings.profiles["web-strict"].classtypes == ("web-application-attack",)
    assert settings.profiles["web-strict"].without == (2_019_401,)
    assert settings.log == tmp_path / "inspector" / "eve.json"


def test_the_examples_file_is_taken() -> None:
    text = (ROOT / "examples/monitored/agent.toml").read_text()
    table = tomllib.loads(text.replace("{lab}", "/x").replace("{collector}", "192.0.2.1"))["inspector"]
    assert msgspec.convert(table, InspectorConfig).profiles["names"].files == ["names.rules"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('rules = ["a"]\nsyslog = "nowhere"', "syslog"),
        ('rules = ["a"]\nrool = 1', "rool"),
        ('rules = ["a"]\nprofiles.x.signatures = [0]', ">= 1"),
    ],
)
def test_mistakes_are_refused_by_name(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'controller = "192.0.2.1:7443"\n[inspector]\n{table}\n')
    with pytest.raises(UsageError, match=said):
        read_config(path, AgentConfig)


def test_nothing_to_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="signatures or a mirror"):
        InspectorConfig().settings(tmp_path)
    assert InspectorConfig(mirror="hwmirror").settings(tmp_path).mirror == "hwmirror"
