"""Where metrics may be served: on this machine as it likes, beyond it with TLS and a token only."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.cli.configuration import AgentConfig, ControllerConfig, MetricsConfig, read_config
from hostward.cli.metrics import metrics_door
from hostward.errors import UsageError
from hostward.export.metrics.listener import MetricsDoor


@pytest.mark.parametrize(
    ("listen", "door"),
    [
        ("127.0.0.1:9465", MetricsDoor("127.0.0.1", 9_465)),
        ("[::1]:0", MetricsDoor("::1", 0)),
        ("127.8.8.8:1", MetricsDoor("127.8.8.8", 1)),
    ],
)
def test_on_this_machine_nothing_else_is_needed(listen: str, door: MetricsDoor) -> None:
    assert metrics_door(MetricsConfig(listen)) == door


@pytest.mark.parametrize("listen", ["", "9465", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "somewhere:1", ":1"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(UsageError, match=r"metrics\.listen"):
        metrics_door(MetricsConfig(listen))


def test_beyond_this_machine_both_certificate_and_token_are_asked_for(tmp_path: Path) -> None:
    token, pem = tmp_path / "token", tmp_path / "x.pem"
    token.write_text("t" * 40)
    token.chmod(0o600)
    for address in ("0.0.0.0:1", "[::]:1", "192.0.2.1:1"):
        for partial in (
            MetricsConfig(address),
            MetricsConfig(address, token_file=token),
            MetricsConfig(address, pem, pem),
        ):
            with pytest.raises(UsageError, match="TLS and a token"):
                metrics_door(partial)
        door = metrics_door(MetricsConfig(address, pem, pem, token))
        assert door is not None
        assert door.token == "t" * 40
    with pytest.raises(UsageError, match="belong together"):
        metrics_door(MetricsConfig("127.0.0.1:1", certificate=pem))
    token.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        metrics_door(MetricsConfig("127.0.0.1:1", token_file=token))


def test_the_daemons_files_have_a_table_for_it(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('controller = "127.0.0.1:1"\n[metrics]\nlisten = "127.0.0.1:9465"\nendpoints = 4\n')
    config = read_config(file, AgentConfig)
    assert config.metrics is not None
    assert (config.metrics.listen, config.metrics.endpoints) == ("127.0.0.1:9465", 4)
    file.write_text('[metrics]\nlisten = "127.0.0.1:9465"\nendpoints = 4\n')
    with pytest.raises(UsageError, match="endpoints"):
        read_config(file, ControllerConfig)
    file.write_text("")
    assert read_config(file, ControllerConfig).metrics is None
