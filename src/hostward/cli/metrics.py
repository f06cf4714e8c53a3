"""The metrics of a daemon, served while it runs: what its configuration asks for, checked before anything listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Protocol

from hostward.api.serving import read_token
from hostward.cli.configuration import MetricsConfig
from hostward.errors import UsageError
from hostward.export.metrics.listener import PATH, MetricsDoor, MetricsListener
from hostward.export.metrics.page import Page


class Part(Protocol):
    """A part of the process that adds what it counts to a page."""

    async def add_to(self, page: Page) -> None:
        """Add it."""
        ...


def metrics_door(config: MetricsConfig | None) -> MetricsDoor | None:
    """Where to listen, None if nowhere. Raises UsageError if it cannot be, or if others could read without a secret.

    Metrics name tenants and endpoints, and how much each of them does.
    """
    if config is None:
        return None
    host, _, port = config.listen.rpartition(":")
    address = host.strip("[]")
    if not port.isdecimal() or int(port) > 65_535 or not address:
        raise UsageError(f"{config.listen!r} is not ADDRESS:PORT", subject="metrics.listen")
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        raise UsageError(
            f"{address!r} is no IP address", subject="metrics.listen", hint="e.g. 127.0.0.1:9465"
        ) from None
    if (config.certificate is None) != (config.key is None):
        raise UsageError("certificate and key belong together", subject="metrics")
    if not loopback and (config.certificate is None or config.token_file is None):
        raise UsageError(
            "beyond this machine metrics are served with TLS and a token only",
            subject="metrics.listen",
            hint="set certificate, key and token_file, or listen on 127.0.0.1",
        )
    token = "" if config.token_file is None else read_token(config.token_file)
    return MetricsDoor(address, int(port), config.certificate, config.key, token)


@contextlib.asynccontextmanager
async def serving_metrics(door: MetricsDoor | None, *parts: Part) -> AsyncIterator[str]:
    """Serve the parts' metrics while the context is open; its value is their URL, empty if none are asked for."""
    if door is None:
        yield ""
        return

    async def page(accept: str) -> tuple[bytes, str]:
        made = Page()
        for part in parts:
            await part.add_to(made)
        # Thousands of lines: in a thread, so that the loop goes on between them.
        return await asyncio.to_thread(made.written, accept)

    listener = MetricsListener(door, page)
    await listener.start()
    host, port = listener.address
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"{'https' if door.certificate else 'http'}://{shown}:{port}{PATH}"
    finally:
        await listener.close()
