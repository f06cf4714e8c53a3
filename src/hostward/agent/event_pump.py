"""Flow events and alerts on their way from the enforcer to the channel, in bounded batches; every loss is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hostward.agent.messages import Events
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent

# While no channel is open events wait here; the newest are worth more than the oldest.
WAITING_LIMIT = 16_384
BATCH_LIMIT = 512
ALERTS_LIMIT = 1_024
DETECTIONS_LIMIT = 2_048
DETECTIONS_BATCH = 64


_Event = TypeVar("_Event", FlowEvent, GuardEvent, Mapping[str, Any])


class EventPump:
    """A bounded queue with an exact count of what it dropped.

    ``taken`` and ``dropped`` count since the agent started; what a batch tells of as lost is since the batch before.
    """

    def __init__(self, limit: int = WAITING_LIMIT) -> None:
        self._waiting: deque[FlowEvent] = deque()
        self._alerts: deque[GuardEvent] = deque()
        self._detections: deque[Mapping[str, Any]] = deque()
        self._limit = limit
        self._lost = 0
        self.taken = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Events that wait to be sent."""
        return len(self._waiting) + len(self._alerts) + len(self._detections)

    def put(self, events: Sequence[FlowEvent]) -> None:
        """Queue events; the oldest leave if there is no room."""
        self._queue(self._waiting, events, self._limit)

    def put_alerts(self, alerts: Sequence[GuardEvent]) -> None:
        """The same with alerts, which have room of their own: a flood of flow events does not push them out."""
        self._queue(self._alerts, alerts, ALERTS_LIMIT)

    def put_detections(self, detections: Sequence[Mapping[str, Any]]) -> None:
        """The same with what the inspector found."""
        self._queue(self._detections, detections, DETECTIONS_LIMIT)

    def _queue(self, queue: deque[_Event], events: Sequence[_Event], limit: int) -> None:
        self.taken += len(events)
        queue.extend(events)
        while len(queue) > limit:
            queue.popleft()
            self._lost += 1
            self.dropped += 1

    def take(self) -> Events | None:
        """The next batch to send, or None. A batch whose sending failed is given back by ``lose``."""
        if not self._waiting and not self._alerts and not self._detections and not self._lost:
            return None
        batch = [self._waiting.popleft() for _ in range(min(BATCH_LIMIT, len(self._waiting)))]
        alerts = [self._alerts.popleft() for _ in range(min(BATCH_LIMIT, len(self._alerts)))]
        found = [self._detections.popleft() for _ in range(min(DETECTIONS_BATCH, len(self._detections)))]
        lost, self._lost = self._lost, 0
        return Events(batch, lost, alerts, found)

    def lose(self, batch: Events) -> None:
        """A batch may not have arrived: count it as lost, since sending it again could report it twice."""
        count = len(batch.events) + len(batch.alerts) + len(batch.detections)
        self.dropped += count
        self._lost += count + batch.lost
