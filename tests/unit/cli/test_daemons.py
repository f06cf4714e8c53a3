"""What a daemon checks before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.agent.identity import HostIdentity, key_pem, make_key, make_request, save_identity
from hostward.cli.daemons import run_agent, run_controller
from hostward.controller.authority import open_authority
from hostward.controller.ledger import utc_now
from hostward.errors import ConflictError, UsageError
from hostward.private_files import make_private_directory


def test_an_agent_does_not_start_under_another_hosts_certificate(tmp_path: Path) -> None:
    authority = open_authority(tmp_path / "ca", utc_now())
    key = make_key()
    certificate = authority.issue_host(make_request(key, "host-1"), "host-1", utc_now()).pem
    state = tmp_path / "state"
    make_private_directory(state)
    save_identity(state, HostIdentity(key_pem(key), certificate, authority.pem))
    config = tmp_path / "agent.toml"
    config.write_text(f'controller = "127.0.0.1:1"\nstate = "{state}"\nname = "host-2"\n')
    with pytest.raises(ConflictError, match=r"certificate is host host-1's.*host-2"):
        run_agent(config)


def test_a_pattern_that_names_no_device_is_refused_before_a_controller_starts(tmp_path: Path) -> None:
    config = tmp_path / "controller.toml"
    state = tmp_path / "state"
    config.write_text(f'state = "{state}"\n[devices]\nacme = ["tap-acme-*", "blue/"]\n')
    with pytest.raises(UsageError, match=r"devices.acme: 'blue/' names no device"):
        run_controller(config)
    assert not state.exists()
