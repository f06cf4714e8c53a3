"""Where a Prometheus server reads the metrics: HTTP/1.1 with one path, in bounded time and memory.

So few words of HTTP that reading a request is a loop over lines. Whoever is slow, asks for much or comes in numbers is cut
off; the daemon goes on. It must not know what is on the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hostward.errors import HostwardError

log = logging.getLogger(__name__)

PATH = "/metrics"
CLIENTS_LIMIT = 16
REQUEST_LIMIT_BYTES = 8_192
REQUEST_LIMIT_S = 5.0
ANSWER_LIMIT_S = 10.0
_TEXT = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}

# The page and its content type, in a form that the given Accept header takes.
Source = Callable[[str], Awaitable[tuple[bytes, str]]]


@dataclass(frozen=True, slots=True)
class MetricsDoor:
    """Where to listen, and who may ask. Without ``certificate`` it is plain HTTP, with ``token`` none but its bearer."""

    address: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]


class MetricsListener:
    """Serves one page until it is closed."""

    def __init__(self, door: MetricsDoor, source: Source) -> None:
        self._door = door
        self._source = source
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.address = ("", 0)

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had, or the certificate not be read."""
        door, context = self._door, None
        if door.certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(door.certificate, door.key)
        self._server = await asyncio.start_server(
            self._serve,
            door.address,
            door.port,
            limit=REQUEST_LIMIT_BYTES,
            ssl=context,
            ssl_handshake_timeout=REQUEST_LIMIT_S if context else None,
        )
        host, port, *_ = self._server.sockets[0].getsockname()
        self.address = (host, port)

    async def close(self) -> None:
        """Stop listening, and end what is being answered."""
        if self._server is not None:
            self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS_LIMIT:
                writer.transport.abort()  # without a word: to read what it asks is what there is no room for
                return
            async with asyncio.timeout(REQUEST_LIMIT_S):
                request = await _read(reader)
            await self._respond(request, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # whoever left or dawdles gets no answer
        finally:
            self._clients.discard(task)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a client that reads nothing would keep what is buffered for it
            else:
                writer.close()

    async def _respond(self, request: _Request | None, writer: asyncio.StreamWriter) -> None:
        if request is None:
            await _answer(writer, 400, b"this is no HTTP request\n", _TEXT)
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        known = kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._door.token.encode())
        if self._door.token and not known:
            log.warning("metrics: refused %s: no valid token", writer.get_extra_info("peername"))
            await _answer(writer, 401, b"a bearer token is needed\n", _TEXT, "www-authenticate: Bearer\r\n")
        elif request.path.partition("?")[0] != PATH:
            await _answer(writer, 404, f"the metrics are at {PATH}\n".encode(), _TEXT)
        elif request.method != "GET":
            await _answer(writer, 405, b"the metrics are only read\n", _TEXT, "allow: GET\r\n")
        else:
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    page, content_type = await self._source(request.headers.get("accept", ""))
            except Exception as error:
                bug = None if isinstance(error, HostwardError) else error
                log.error("the metrics could not be read: %s", error, exc_info=bug)
                await _answer(writer, 500, b"the metrics could not be read; the log says why\n", _TEXT)
                return
            await _answer(writer, 200, page, content_type)


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """A request's head, None if it is none. What follows it is not read: the connection ends with the answer."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    pairs = (line.partition(":") for line in lines if line)
    return _Request(words[0], words[1], {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _answer(writer: asyncio.StreamWriter, status: int, body: bytes, content_type: str, extra: str = "") -> None:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n{extra}\r\n"
    )
    writer.transport.set_write_buffer_limits(0)  # drained means sent
    writer.write(head.encode("latin-1") + body)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await writer.drain()
