"""Flow events on their way from the enforcer to the channel, in bounded batches; every loss is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hostward.agent.messages import Events
from hostward.model.flow import FlowEvent

# While no channel is open events wait here; the newest are worth more than the oldest.
WAITING_LIMIT = 16_384
BATCH_LIMIT = 512


class EventPump:
    """A bounded queue with an exact count of what it dropped."""

    def __init__(self, limit: int = WAITING_LIMIT) -> None:
        self._waiting: deque[FlowEvent] = deque()
        self._limit = limit
        self._lost = 0

    def put(self, events: Sequence[FlowEvent]) -> None:
        """Queue events; the oldest leave if there is no room."""
        self._waiting.extend(events)
        while len(self._waiting) > self._limit:
            self._waiting.popleft()
            self._lost += 1

    def take(self) -> Events | None:
        """The next batch to send, or None. A batch whose sending failed is given back by ``lose``."""
        if not self._waiting and not self._lost:
            return None
        batch = [self._waiting.popleft() for _ in range(min(BATCH_LIMIT, len(self._waiting)))]
        lost, self._lost = self._lost, 0
        return Events(batch, lost)

    def lose(self, batch: Events) -> None:
        """A batch may not have arrived: count it as lost, since sending it again could report it twice."""
        self._lost += len(batch.events) + batch.lost
