"""`hostward controller backup` and `restore` as an operator types them, beside a controller that runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.controller.recovery import LOST_MAX

HOSTWARD = [sys.executable, "-m", "hostward.cli.main"]


def hostward(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HOSTWARD, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "controller.toml"
    text = f'state = "{tmp_path}/state"\nsocket = "{tmp_path}/api.sock"\nchannel_port = 0\nenrolment_port = 0\n'
    path.write_text(text)
    return path


@contextlib.contextmanager
def running(config: Path) -> Iterator[None]:
    command = [*HOSTWARD, "controller", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("controller ready" in line for line in process.stderr), "it did not start"
            yield
        finally:
            process.terminate()
            process.stderr.read()


def test_a_backup_of_a_running_controller_comes_back_as_a_larger_revision(config: Path, tmp_path: Path) -> None:
    policy, backup = tmp_path / "acme.yaml", tmp_path / "backup"
    policy.write_text("tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n")
    server = f"unix://{tmp_path}/api.sock"
    with running(config):
        applied = hostward("apply", "-f", policy, "--server", server)
        assert applied.returncode == 0, applied.stderr
        made = hostward("controller", "backup", backup, "--config", config)
        assert made.returncode == 0, made.stderr
        assert "revision 1 is backed up" in made.stderr
        assert made.stdout == ""
        busy = hostward("controller", "restore", backup, "--config", config, "--force")
        assert (busy.returncode, busy.stdout) == (1, "")
        assert "another process runs on this state" in busy.stderr
    present = hostward("controller", "restore", backup, "--config", config)
    assert present.returncode == 1
    assert "there is a controller's state already" in present.stderr
    restored = hostward("controller", "restore", backup, "--config", config, "--force")
    assert restored.returncode == 0, restored.stderr
    assert f"is restored as revision {1 + LOST_MAX}" in restored.stderr
    with running(config):
        listed = hostward("get", "revisions", "--server", server, "-o", "json")
        assert "restored from the backup of revision 1" in listed.stdout, listed.stderr


def test_a_controller_without_a_configuration_is_a_wrong_use() -> None:
    said = hostward("controller")
    assert said.returncode == 2
    assert "hostward controller --config FILE" in said.stderr


def test_state_and_config_together_are_a_wrong_use(config: Path, tmp_path: Path) -> None:
    said = hostward("controller", "backup", tmp_path / "b", "--config", config, "--state", tmp_path)
    assert said.returncode == 2
    assert "both --config and --state" in said.stderr
