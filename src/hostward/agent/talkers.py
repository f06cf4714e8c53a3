"""The agent's reports of its endpoints' heaviest peers: a few lines an endpoint, and only of those that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostward.agent.messages import TALKERS_LIMIT, Talkers
from hostward.datapath.readings import Talker

PERIOD_S = 10.0


class TalkerReport:
    """What one channel's other side was told. A new channel begins with a new report."""

    def __init__(self) -> None:
        self._told: dict[str, Sequence[Talker]] = {}

    @property
    def empty(self) -> bool:
        """Whether the other side knows of no talker."""
        return not self._told

    def changes(self, found: Mapping[str, Sequence[Talker]]) -> Talkers | None:
        """The next message, taken to be told; None if nothing changed. An endpoint without flows has none."""
        now = {name: tuple(talkers[:TALKERS_LIMIT]) for name, talkers in found.items() if talkers}
        changed: dict[str, Sequence[Talker]] = {name: () for name in self._told if name not in now}
        changed.update({name: talkers for name, talkers in now.items() if self._told.get(name) != talkers})
        self._told = dict(now)
        return Talkers(changed) if changed else None
