"""`hostward policy fmt`: files are replaced whole or not at all, and a refused file is left as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOSE = "rules: [allow  internet to web on tcp/443]\ntenant: acme\ngroups: {web: role=web}  # tiers\n"
TIGHT = """\
tenant: acme
groups:  # tiers
  web: role=web
rules:
  - allow internet to web on tcp/443
"""


def fmt(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hostward.cli.main", "policy", "fmt", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    path = tmp_path / "acme.yaml"
    path.write_text(LOOSE)
    path.chmod(0o640)
    return path


def test_a_file_is_replaced_and_keeps_its_mode(loose: Path) -> None:
    assert fmt(str(loose)).returncode == 0
    assert loose.read_text() == TIGHT
    assert loose.stat().st_mode & 0o7777 == 0o640
    assert list(loose.parent.iterdir()) == [loose]


def test_a_link_goes_on_pointing_to_its_file(loose: Path) -> None:
    link = loose.with_name("link.yaml")
    link.symlink_to(loose)
    assert fmt(str(link)).returncode == 0
    assert link.is_symlink()
    assert loose.read_text() == TIGHT


def test_check_names_the_files_and_writes_nothing(loose: Path) -> None:
    tight = loose.with_name("tight.yaml")
    tight.write_text(TIGHT.replace("acme", "beta"))
    done = fmt("--check", str(loose), str(tight))
    assert (done.returncode, done.stdout) == (1, "")
    assert str(loose) in done.stderr
    assert str(tight) not in done.stderr
    assert loose.read_text() == LOOSE
    assert fmt("--check", str(tight)).returncode == 0


def test_diff_shows_what_would_change_and_writes_nothing(loose: Path) -> None:
    done = fmt("--diff", str(loose))
    assert done.returncode == 0
    assert "+  - allow internet to web on tcp/443\n" in done.stdout
    assert loose.read_text() == LOOSE
    assert fmt("--diff", "--check", str(loose)).returncode == 1


def test_standard_input_goes_to_standard_output() -> None:
    done = fmt("-", stdin=LOOSE)
    assert (done.returncode, done.stdout) == (0, TIGHT)
    assert fmt("-", "--check", stdin=LOOSE).returncode == 1
    assert fmt("-", "a.yaml").returncode == 2


def test_a_file_with_a_mistake_is_refused_with_its_place_and_the_others_are_formatted(loose: Path) -> None:
    wrong = loose.with_name("wrong.yaml")
    wrong.write_text("tenant:   beta\nrules: [alow any to any]\n")
    done = fmt(str(wrong), str(loose))
    assert done.returncode == 1
    assert f"{wrong}:2:9" in done.stderr
    assert wrong.read_text().startswith("tenant:   beta")
    assert loose.read_text() == TIGHT


def test_the_examples_are_in_canonical_form() -> None:
    examples = Path(__file__).parents[3] / "examples"
    policies = [path for path in examples.rglob("*.yaml") if path.parent.name != "lab"]
    assert policies
    done = fmt("--check", *map(str, policies))
    assert done.returncode == 0, done.stderr
