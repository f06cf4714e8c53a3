"""The `[uplink]` table of an agent's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.cli.configuration import AgentConfig, read_config
from hostward.datapath.uplink import UplinkSettings
from hostward.errors import UsageError


def uplink(folder: Path, text: str) -> UplinkSettings:
    file = folder / "agent.toml"
    file.write_text(f'controller = "h:1"\n[uplink]\n{text}\n')
    table = read_config(file, AgentConfig).uplink
    assert table is not None
    return table.settings()


def test_rates_are_written_as_in_rules(tmp_path: Path) -> None:
    found = uplink(tmp_path, 'device = "eth0"\nrate = "10Gbit/s"\ndownlink = "2500Mbit/s"')
    assert (found.bits_per_s, found.downlink_bits_per_s) == (10_000_000_000, 2_500_000_000)
    assert uplink(tmp_path, 'device = "eth0"\nrate = "1Gbit/s"').downlink_bits_per_s == 0


@pytest.mark.parametrize("rate", ["5kpkt/s", "fast"])
def test_a_downlink_that_is_none_of_bits_is_refused_by_name(tmp_path: Path, rate: str) -> None:
    with pytest.raises(UsageError, match=r"uplink\.downlink"):
        uplink(tmp_path, f'device = "eth0"\nrate = "1Gbit/s"\ndownlink = "{rate}"')
