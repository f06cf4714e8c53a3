"""The pages of docs/howto/policies run as written: the policy parses and is enforced here, every command holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hostward.cli.main import app
from hostward.policy import parse_sources, unsupported

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "howto" / "policies").glob("[0-9]*.md"))


def _blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs_as_written(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (policy,) = _blocks(page, "yaml")
    assert unsupported(parse_sources([(page.name, policy.encode())])) == ()
    (tmp_path / "policy.yaml").write_text(policy)
    monkeypatch.chdir(tmp_path)
    commands = [line for block in _blocks(page, "sh") for line in block.splitlines()]
    assert any("--expect" in command for command in commands)
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "hostward"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (command, done.output)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_expectation_of_the_page_can_fail(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the opposite expected, each command fails."""
    (policy,) = _blocks(page, "yaml")
    (tmp_path / "policy.yaml").write_text(policy)
    monkeypatch.chdir(tmp_path)
    commands = [line for block in _blocks(page, "sh") for line in block.splitlines() if "--expect" in line]
    for command in commands:
        opposite = re.sub(
            r"--expect \S+", "--expect deny" if "--expect allow" in command else "--expect allow", command
        )
        assert CliRunner().invoke(app, shlex.split(opposite)[1:]).exit_code != 0, command


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        # A table may print a pattern that looks like a link: what is code is none.
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.relative_to(DOCS.parent)}: {target}"


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "howto" / "policies" / "README.md").read_text()
    assert [page.name for page in PAGES if f"({page.name})" not in index] == []
    assert len(PAGES) >= 10
