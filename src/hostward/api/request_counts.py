"""Counts requests by operation and status. Only operations that exist are told apart: a path is the asker's to choose."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNSERVED = "none"


class RequestCounts:
    """Middleware around the whole API; ``counts`` is added to when an answer begins."""

    def __init__(self, app: ASGIApp, counts: Counter[tuple[str, int]]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts[_operation(scope), message["status"]] += 1
            await send(message)

        await self._app(scope, receive, counted)


def _operation(scope: Scope) -> str:
    """``METHOD PATH`` of the operation that was found, its parameters by name."""
    route = scope.get("route")
    method, methods = scope.get("method", ""), getattr(route, "methods", None) or ()
    return f"{method} {getattr(route, 'path', '')}" if method in methods else UNSERVED
