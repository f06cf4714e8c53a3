"""What a controller counts of itself, for its metrics. Plain numbers; nothing here writes a page."""

from __future__ import annotations

from collections import Counter

from hostward.agent.messages import NackReason
from hostward.export.metrics.durations import Durations


class Measures:
    """Begins at zero with the controller. Written on the event loop alone."""

    def __init__(self) -> None:
        self.changes = Durations()
        self.compiling = Durations()
        self.channels_accepted = 0
        self.refused: Counter[NackReason] = Counter()
        # By operation and HTTP status.
        self.api_requests: Counter[tuple[str, int]] = Counter()
