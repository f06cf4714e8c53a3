"""Controller and agent as daemons, each with its own metrics behind TLS and a token, as the how-to sets them up."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.scrape import Scrape

pytestmark = pytest.mark.netns

TOKEN = "k" * 40


@contextlib.contextmanager
def _daemon(*words: str) -> Iterator[str]:
    """A daemon while it runs: where its metrics are."""
    command = [sys.executable, "-m", "hostward.cli.main", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("metrics on "):
                    yield line.removeprefix("metrics on ").strip()
                    return
            raise AssertionError("the daemon ended before it served its metrics")
        finally:
            process.kill()
            process.communicate()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def metrics_table(tmp_path: Path) -> str:
    certificate, key, token = tmp_path / "m.crt", tmp_path / "m.key", tmp_path / "m.token"
    subject = ("-subj", "/CN=h", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    token.write_text(TOKEN)
    token.chmod(0o600)
    return f'[metrics]\nlisten = "127.0.0.1:0"\ncertificate = "{certificate}"\nkey = "{key}"\ntoken_file = "{token}"\n'


def test_each_daemon_serves_its_own_to_who_has_the_token(tmp_path: Path, pins: Path, metrics_table: str) -> None:
    context = ssl.create_default_context(cafile=tmp_path / "m.crt")

    def get(url: str, token: str) -> Scrape:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return Scrape(answer.read().decode())

    channel, enrolment = _free_ports(2)
    api = tmp_path / "api.sock"
    controller_file, agent_file = tmp_path / "controller.toml", tmp_path / "agent.toml"
    controller_file.write_text(
        f'state = "{tmp_path}/controller"\nsocket = "{api}"\nchannel_port = {channel}\nenrolment_port = {enrolment}\n'
        + metrics_table
    )
    agent_file.write_text(
        f'controller = "127.0.0.1:{channel}"\nenrolment = "127.0.0.1:{enrolment}"\ntoken_file = "{tmp_path}/join"\n'
        f'name = "h1"\nstate = "{tmp_path}/agent"\npins = "{pins}"\n' + metrics_table + "endpoints = 0\n"
    )
    with _daemon("controller", "--config", str(controller_file)) as controller_url:
        assert controller_url.startswith("https://127.0.0.1:")
        made = subprocess.run(
            [sys.executable, "-m", "hostward.cli.main", "host", "token", "h1", "--server", f"unix://{api}"],
            check=True,
            capture_output=True,
            text=True,
        )
        (tmp_path / "join").write_text(made.stdout)
        with _daemon("agent", "--config", str(agent_file)) as agent_url:
            for url in (controller_url, agent_url):
                with pytest.raises(urllib.error.HTTPError, match="401"):
                    get(url, "k" * 39)
            controller, agent = get(controller_url, TOKEN), get(agent_url, TOKEN)
    assert controller.by("hostward_build_info", "part").keys() == {"controller"}
    assert agent.by("hostward_build_info", "part").keys() == {"agent"}
    assert controller.by("hostward_hosts", "state") == {"admitted": 1}
    assert controller.by("hostward_api_requests_total", "operation") == {"POST /v1/tokens": 1}
    assert agent.values("hostward_endpoint_flows") == {"endpoint=other,tenant=": 0}
