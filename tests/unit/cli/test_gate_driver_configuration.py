from __future__ import annotations

from pathlib import Path

import pytest

from hostward.cli.configuration import read_config
from hostward.cli.gate_configuration import GateConfig
from hostward.errors import UsageError
from hostward.gate.daemon import GateSettings
from hostward.gate.drivers import AmtMachine, PortDevices, SwitchDevices

HEAD = f"""
name = "g"
listen = "127.0.0.1:7446"
pulses = "10.0.0.254:7447"
controller_keys = ["{"ab" * 32}"]
"""
SWITCH = 'driver = "switch-port"\n[[ports]]\nname = "p"\nhost = "swp1"\nbridge = "br0"\naddresses = '


def settings(folder: Path, text: str) -> GateSettings:
    path = folder / "gate.toml"
    path.write_text(HEAD + text)
    return read_config(path, GateConfig).settings(path)


def test_a_port_by_ebpf_has_two_devices(tmp_path: Path) -> None:
    (port,) = settings(tmp_path, '[[ports]]\nname = "p"\nhost = "a"\nfabric = "b"\n').ports
    assert port == PortDevices("p", "a", "b")


def test_a_switchs_port_has_a_bridge_and_addresses(tmp_path: Path) -> None:
    (port,) = settings(tmp_path, SWITCH + '["02:00:00:00:00:01"]').ports
    assert port == SwitchDevices("p", "swp1", "br0", (bytes.fromhex("020000000001"),))


AMT = 'driver = "amt"\n[[ports]]\nname = "p"\namt = "https://10.0.0.9:16993"\n'


def test_a_machine_with_amt_has_an_address_and_a_password(tmp_path: Path) -> None:
    (port,) = settings(tmp_path, AMT + 'password = "/p"').ports
    assert port == AmtMachine("p", "https://10.0.0.9:16993", "admin", Path("/p"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[ports]]\nname = "p"\nhost = "a"\n', "needs host, fabric"),
        ('[[ports]]\nname = "p"\nhost = "a"\nfabric = "b"\nbridge = "c"\n', "needs host, fabric"),
        (SWITCH + "[]", "needs host, bridge, addresses"),
        (SWITCH + '["02:00:00:00:00:01"]\nfabric = "b"', "needs host, bridge, addresses"),
        (SWITCH + '["03:00:00:00:00:01"]', "regex"),
        (SWITCH + '["00:00:00:00:00:00"]', "regex"),
        (SWITCH + '["02:00:00:00:00"]', "regex"),
        (SWITCH + '["02:00:00:00:00:01"]\n[[allow]]\nprefix = "10.0.0.0/8"', "no quarantine profile"),
        (AMT, "needs amt, password"),
        (AMT + 'password = "/p"\nhost = "a"', "needs amt, password"),
        (AMT.replace("https", "http") + 'password = "/p"', "regex"),
        ('driver = "hope"\n[[ports]]\nname = "p"\nhost = "a"\nfabric = "b"\n', "hope"),
    ],
)
def test_a_port_that_does_not_fit_its_driver_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, text)
    assert says in str(caught.value)
