"""The bar: on a terminal and late, nowhere else."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from hostward.cli.progress import waiting


class Terminal(io.StringIO):
    """A stderr that says it is a terminal, and tells when something was drawn on it."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "rolling out" in text:
            self.drawn.set()
        return super().write(text)


def test_a_long_wait_on_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with waiting("rolling out", patience_s=0):
        assert terminal.drawn.wait(10)


def test_a_short_wait_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with waiting("rolling out", patience_s=3_600):
        pass
    assert terminal.getvalue() == ""


def test_no_terminal_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with waiting("rolling out", patience_s=0):
        pass
    assert file.getvalue() == ""
