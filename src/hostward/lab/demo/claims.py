"""A claim: a sentence, a check, and what the check saw. This module prints; it knows nothing of networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from hostward.errors import HostwardError


class ClaimFailedError(HostwardError):
    """The opposite was seen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A claim after its check."""

    name: str
    held: bool
    seen: str
    seconds: float


def require(condition: bool, otherwise: str) -> None:
    """Fail the claim that is being checked unless ``condition`` holds."""
    if not condition:
        raise ClaimFailedError(otherwise)


class Claims:
    """The claims of one run, and the figures that came up."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.outcomes: list[Outcome] = []
        self.figures: list[tuple[str, str]] = []

    def chapter(self, title: str) -> None:
        """Begin a group of claims."""
        self._console.rule(f"[bold]{title}", align="left")

    def hold(self, name: str, check: Callable[[], str]) -> None:
        """Check one claim; ``check`` returns what it saw, or raises what it saw instead."""
        started_s = time.monotonic()
        try:
            held, seen = True, check()
        except (HostwardError, OSError) as error:
            held, seen = False, str(error)
        outcome = Outcome(name, held, seen, time.monotonic() - started_s)
        self.outcomes.append(outcome)
        mark = "[green]holds[/]" if held else "[bold red]FAILS[/]"
        self._console.print(f"{mark}  {name}")
        for line in seen.splitlines():
            self._console.print(f"       [dim]{line}[/]", highlight=False)

    def figure(self, name: str, value: str) -> None:
        """Note a measured figure for the end."""
        self.figures.append((name, value))

    def conclude(self) -> bool:
        """Print the tables; whether every claim held."""
        table = Table("claim", "", "s", title="What was shown")
        for outcome in self.outcomes:
            mark = "[green]holds[/]" if outcome.held else "[bold red]FAILS[/]"
            table.add_row(outcome.name, mark, f"{outcome.seconds:.1f}")
        self._console.print(table)
        if self.figures:
            figures = Table("figure", "value", title="Figures")
            for name, value in self.figures:
                figures.add_row(name, value)
            self._console.print(figures)
        failed = sum(not outcome.held for outcome in self.outcomes)
        total = len(self.outcomes)
        self._console.print(
            f"{total - failed} of {total} claims hold" + (f"; [bold red]{failed} FAILED" if failed else "")
        )
        return failed == 0
