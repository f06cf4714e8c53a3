"""The gate's and the sentinel's files: what they become, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.cli.configuration import read_config
from hostward.cli.gate_configuration import GateConfig, SentinelConfig
from hostward.errors import UsageError
from hostward.gate.gate import Enforcement
from hostward.gate.identity import gate_fingerprint
from hostward.gate.kernel import Hook, allowed

KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032, section 7.1, test 1
GATE = f"""
name = "g1"
listen = "192.0.2.1:7446"
pulses = "[2001:db8::1]:7447"
controller_keys = ["{KEY}"]
[[ports]]
name = "p1"
host = "pf0hpf"
fabric = "p0"
[[allow]]
prefix = "192.0.2.10/32"
protocol = "tcp"
port = 7443
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "daemon.toml"
    path.write_text(text)
    return path


def test_a_gates_file(tmp_path: Path) -> None:
    path = written(tmp_path, GATE)
    settings = read_config(path, GateConfig).settings(path)
    assert (settings.listen, settings.pulses) == (("192.0.2.1", 7446), ("2001:db8::1", 7447))
    assert (settings.hook, settings.enforcement) == (Hook.XDP, Enforcement.ENFORCE)
    assert [port.name for port in settings.ports] == ["p1"]
    assert list(settings.profile) == [allowed("192.0.2.10/32", 6, 7443)]
    assert len(settings.keys) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ((f'["{KEY}"]', "[]"), "controller"),
        ((KEY, "00"), "controller_keys"),
        (("192.0.2.1:7446", "gate.example:7446"), "no IP address"),
        (("192.0.2.1:7446", "192.0.2.1"), "HOST:PORT"),
        (("192.0.2.10/32", "192.0.2.10/33"), "no prefix"),
        (('"tcp"', '"gre"'), "protocol"),
        (('name = "g1"', 'name = "g1"\nmode = "off"'), "mode"),
        (('name = "g1"', 'name = "g1"\nclosed = false'), "closed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    path = written(tmp_path, GATE.replace(*change))
    with pytest.raises(UsageError) as caught:
        read_config(path, GateConfig).settings(path)
    assert named in str(caught.value)


def test_a_sentinels_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'gate = "192.0.2.1:7447"\nport = "p1"\nsocket = "/run/s.sock"\n')
    settings = read_config(path, SentinelConfig).settings(path)
    assert (settings.gate, settings.port, settings.socket) == (("192.0.2.1", 7447), "p1", Path("/run/s.sock"))
    assert (settings.period_s, settings.restart_grace_s) == (1.0, 30.0)
    with pytest.raises(UsageError):
        read_config(written(tmp_path, 'gate = "x"\nport = "p1"\n'), SentinelConfig).settings(path)


def test_a_gates_identity_is_made_once_and_is_private(tmp_path: Path) -> None:
    state = tmp_path / "gate"
    first = gate_fingerprint(state)
    assert len(bytes.fromhex(first)) == 32
    assert gate_fingerprint(state) == first
    assert (state / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert gate_fingerprint(tmp_path / "other") != first
