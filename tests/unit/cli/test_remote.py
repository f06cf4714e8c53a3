"""The command line against a controller over TLS, in processes of its own: login, what a tenant may do, logout."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hostward.cli.logins import login_file, login_for, remember
from hostward.controller.recovery import DATABASE_FILE
from hostward.errors import UsageError
from hostward.store.sqlite import SqliteStore

RUN = "from hostward.cli.main import main; main()"


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    for name in ("HOSTWARD_SERVER", "HOSTWARD_TOKEN", "HOSTWARD_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )


def certificate(folder: Path) -> None:
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=api"
    names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(folder / "api.key"),
        "-out",
        str(folder / "api.crt"),
    ]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)


def test_a_login_is_private_and_its_token_goes_nowhere_else() -> None:
    remember("https://one:1", "secret")
    assert login_file().stat().st_mode & 0o777 == 0o600
    assert login_for("").token == "secret"
    assert login_for("https://one:1/").token == "secret"
    with pytest.raises(UsageError, match="not logged in there"):
        login_for("https://other:1")
    with pytest.raises(UsageError, match="only TLS"):
        login_for("http://one:1")
    with pytest.raises(UsageError, match="a token is needed"):
        remember("https://one:1")


def test_a_tenants_editor_works_from_afar(tmp_path: Path, free_port: int) -> None:
    certificate(tmp_path)
    local, url = f"unix://{tmp_path}/api.sock", f"https://127.0.0.1:{free_port}"
    config = tmp_path / "controller.toml"
    config.write_text(
        f'state = "{tmp_path}/state"\nsocket = "{tmp_path}/api.sock"\nchannel_port = 0\nenrolment_port = 0\n'
        f'[api]\naddress = "127.0.0.1"\nport = {free_port}\n'
        f'certificate = "{tmp_path}/api.crt"\nkey = "{tmp_path}/api.key"\n'
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", RUN, "controller", "--config", str(config)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stderr is not None
        assert any("controller ready" in line for line in iter(daemon.stderr.readline, ""))
        made = cli("access", "token", "create", "ci", "--role", "tenant-editor", "--tenant", "acme", "--server", local)
        assert made.returncode == 0, made.stderr
        (tmp_path / "token").write_text(made.stdout)
        refused = cli("whoami", "--server", url)
        assert (refused.returncode, "hostward login" in refused.stderr) == (2, True)
        assert cli("login", "--server", url, "--token", f"@{tmp_path}/token").returncode == 0
        untrusted = cli("whoami")
        assert untrusted.returncode == 1
        assert "no controller answers" in untrusted.stderr
        ca = str(tmp_path / "api.crt")
        assert cli("login", "--server", url, "--token", f"@{tmp_path}/token", "--ca", ca).returncode == 0
        assert "token:ci" in cli("whoami").stdout
        policy = tmp_path / "acme.yaml"
        policy.write_text("tenant: acme\ngroups: {web: role=web}\n")
        applied = cli("apply", "-f", str(policy))
        assert applied.returncode == 0, applied.stderr
        policy.write_text("tenant: beta\n")
        other = cli("apply", "-f", str(policy))
        assert (other.returncode, "may not apply" in other.stderr, "whoami" in other.stderr) == (1, True, True)
        log = cli("audit", "--server", local, "-o", "json").stdout
        assert log.count('"who": "token:ci"') == 2
        head = cli("audit", "verify", "--server", local)
        assert (head.returncode, len(head.stdout.strip())) == (0, 64)
        assert cli("audit", "verify", "--server", local, "--head", "0f" * 32).returncode == 1
        assert cli("access", "token", "revoke", "ci", "--server", local).returncode == 0
        ended = cli("whoami")
        assert (ended.returncode, "log in again" in ended.stderr) == (1, True)
        assert cli("whoami").returncode == 1
        assert cli("logout").returncode == 0
        assert not login_file().exists()
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)
    store = SqliteStore(tmp_path / "state" / DATABASE_FILE)
    try:
        log_ins = [record.entry for record in store.audit(0, 100) if record.entry.action == "log-in"]
    finally:
        store.close()
    assert [(entry.who, entry.count) for entry in log_ins] == [("peer:127.0.0.1", 1)] * 2
