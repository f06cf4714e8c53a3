"""Tells others what happened: one JSON object a POST, in order, for whoever pages people or drains hosts.

Nothing waits for it. What cannot be delivered is tried again for some minutes, and what is lost then is counted and logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)

_WAITING_MAX = 1_000
_ANSWER_LIMIT_S = 10.0
_RETRY_FIRST_S, _RETRY_CAP_S = 0.5, 30.0
_GIVE_UP_S = 300.0


class Webhooks:
    """For some URLs, each with a queue of its own. Call from the event loop's thread."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._queues: dict[str, asyncio.Queue[bytes]] = {url: asyncio.Queue(_WAITING_MAX) for url in urls}
        self.lost = dict.fromkeys(urls, 0)

    def tell(self, event: str, host: str, now: datetime, **more: object) -> None:
        """Something happened to a host: ``event`` is a word of docs/howto/attest-hosts.md."""
        self.send(json.dumps({"time": now.isoformat(), "event": event, "host": host, **more}).encode())

    def send(self, body: bytes) -> None:
        """Post one JSON object to everybody."""
        for url, queue in self._queues.items():
            try:
                queue.put_nowait(body)
            except asyncio.QueueFull:
                self._lose(url)

    async def run(self) -> None:
        """Deliver, until cancelled; at once over if nobody is to be told."""
        if not self._queues:
            return
        import httpx2  # most controllers tell nobody

        async with httpx2.AsyncClient(timeout=_ANSWER_LIMIT_S) as client, asyncio.TaskGroup() as tasks:
            for url, queue in self._queues.items():
                tasks.create_task(self._deliver_all(client, url, queue), name=f"webhook {url}")

    async def _deliver_all(self, client: httpx2.AsyncClient, url: str, queue: asyncio.Queue[bytes]) -> None:
        while True:
            body = await queue.get()
            if not await self._deliver(client, url, body):
                self._lose(url)

    async def _deliver(self, client: httpx2.AsyncClient, url: str, body: bytes) -> bool:
        import httpx2

        wait_s, spent_s = _RETRY_FIRST_S, 0.0
        headers: Mapping[str, str] = {"Content-Type": "application/json"}
        while spent_s < _GIVE_UP_S:
            try:
                answer = await client.post(url, content=body, headers=headers)
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
            else:
                if answer.status_code < 300:
                    return True
                reason = f"status {answer.status_code}"
                if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
                    log.warning("webhook %s does not take it: %s", url, reason)
                    return False
            log.warning("webhook %s: %s; again in %.0f s", url, reason, wait_s)
            await asyncio.sleep(wait_s)
            spent_s += wait_s
            wait_s = min(2 * wait_s, _RETRY_CAP_S)
        return False

    def _lose(self, url: str) -> None:
        self.lost[url] += 1
        if self.lost[url] == 1:
            log.error("webhook %s: events are being lost", url)
