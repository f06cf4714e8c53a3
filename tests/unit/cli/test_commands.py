"""The command line as a black box: exit statuses, streams and start-up, without a controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

POLICY = """tenant: acme
groups: {web: role=web, db: role=db}
rules: [allow internet to web on tcp/443]
assertions: [never internet to db]
"""


def hostward(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that finds no controller."""
    environment = {**os.environ, "HOSTWARD_SERVER": f"unix://{folder}/no.sock", "NO_COLOR": "1", "HOME": str(folder)}
    command = [sys.executable, "-m", "hostward.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    [
        ("get", "nonsense"),
        ("observe", "--verdict", "maybe"),
        ("observe", "--since", "yesterday"),
        ("observe", "--limit", "0"),
        ("explain", "--from", "a", "--to", "b", "--port", "tcp/1", "--expect", "perhaps"),
        ("apply", "-f", "/nowhere.yaml"),
        ("apply", "-f", "/dev/null", "--confirm-within", "soon"),
        ("host", "token", "--life", "-1s"),
        ("endpoint", "add", "x", "--tenant", "t", "--device", "v", "--label", "role"),
        ("delete", "host", "h1"),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_with_2_and_says_nothing_on_stdout(words: tuple[str, ...], tmp_path: Path) -> None:
    done = hostward(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


@pytest.mark.parametrize("words", [("get", "hosts"), ("confirm",), ("observe",), ("endpoint", "remove", "a")])
def test_without_a_controller_a_command_says_how_to_start_one(words: tuple[str, ...], tmp_path: Path) -> None:
    done = hostward(tmp_path, *words)
    assert done.returncode == 1
    assert "no controller answers" in done.stderr
    assert "hostward up" in done.stderr


@pytest.mark.parametrize("words", [("apply", "-f"), ("plan", "-f"), ("policy", "check")])
def test_a_file_that_is_not_utf_8_is_refused_with_its_place(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"tenant: acme\ngroups: {w: role=\xff}\n")
    done = hostward(tmp_path, *words, str(path))
    assert done.returncode == 1
    assert f"{path}:2:18: this byte is not UTF-8" in done.stderr


@pytest.mark.parametrize(("rule", "status", "state"), [("web", 0, "holds"), ("db", 1, "fails")])
def test_policy_check_answers_as_json_too(rule: str, status: int, state: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POLICY.replace("to web", f"to {rule}"))
    done = hostward(tmp_path, "policy", "check", str(path), "-o", "json")
    assert done.returncode == status
    answer = json.loads(done.stdout)
    assert {"assertions", "warnings"} <= answer.keys()
    (row,) = answer["assertions"]
    assert (row["name"], row["state"]) == ("never internet to db", state)
    assert row["place"].startswith(f"{path}:4:")


def test_policy_check_warns_and_is_strict_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POLICY.replace("443]", "443, deny any to web]"))
    for strict, status in ((), 0), (("--strict",), 1):
        done = hostward(tmp_path, "policy", "check", str(path), "-o", "json", *strict)
        assert done.returncode == status
        (warning,) = json.loads(done.stdout)["warnings"]
        assert (warning["code"], warning["severity"]) == ("shadowed", "warning")
        assert warning["place"] == f"{path}:3:9"
        assert warning["rule"].startswith("acme/~")
        assert warning["others"]
    assert f"{path}:3:9: {warning['rule']}: " in hostward(tmp_path, "policy", "check", str(path)).stdout


def test_explain_answers_offline_with_the_contracts_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(POLICY)
    done = hostward(
        tmp_path, "explain", "--from", "internet", "--to", "web", "--port", "tcp/443", "-f", str(path), "-o", "json"
    )
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "allow"
    assert {"verdict", "rule", "text", "tier", "rules", "revision", "lost", "cases"} <= answer.keys()


def test_help_lists_every_group_without_importing_what_they_need(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['hostward', '--help']\n"
        "from hostward.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('hostward.lab', 'hostward.policy', 'hostward.controller', 'fastapi', 'httpx2', 'uvicorn')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    for group in ("policy", "endpoint", "host", "bench", "lab"):
        assert f" {group} " in done.stdout


def test_the_labs_own_help_lists_its_commands(tmp_path: Path) -> None:
    done = hostward(tmp_path, "lab", "--help")
    assert done.returncode == 0
    for command in ("up", "status", "exec", "down"):
        assert f" {command} " in done.stdout


def test_it_tells_its_version(tmp_path: Path) -> None:
    assert hostward(tmp_path, "--version").stdout.strip() == version("hostward")
    assert "up --policy" in hostward(tmp_path, "--help").stdout


def test_several_files_may_follow_one_option(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(POLICY)
    (tmp_path / "beta.yaml").write_text("tenant: beta\ngroups: {x: role=x}\nrules: [allow internet to x on tcp/1]\n")
    files = [str(tmp_path / name) for name in ("acme.yaml", "beta.yaml")]
    question = ("--from", "internet", "--to", "beta/x", "--port", "tcp/1", "--expect", "allow")
    assert hostward(tmp_path, "explain", "-f", *files, *question).returncode == 0
    assert hostward(tmp_path, "explain", *question, "-f", *files).returncode == 0
    unasked = hostward(tmp_path, "explain", *question, *files)
    assert (unasked.returncode, "-f" in unasked.stderr) == (2, True)
    for command in ("plan", "apply"):
        assert "no controller answers" in hostward(tmp_path, command, "-f", *files).stderr
