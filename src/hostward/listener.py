"""WebSockets over TLS 1.3, one socket at a time, so that every client that is refused leaves a line with its address.

The loop's own TLS server drops a client whose handshake fails without telling anybody. Here each socket is accepted first
and its handshake awaited, so that a refusal can be logged and pending handshakes can be bounded. (Starting TLS on an
accepted plain transport is no way out: uvloop cannot.) This module must not know what is said over a connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hostward.turnstile import Turnstile, source_of

log = logging.getLogger(__name__)

# Whether the connection was worth its handshake: False makes its source wait the next time (``turnstile``).
Handler = Callable[[ServerConnection], Awaitable[bool | None]]

HANDSHAKE_LIMIT_S = 10.0
# Handshakes are the only work that a stranger can ask for; more than this many at a time wait in the backlog.
PENDING_HANDSHAKES = 256
# While half of them are taken, one source has so many at most: who begins and does not go on holds up nobody else.
_PENDING_OF_ONE = 8
# Messages that wait for the handler before nothing more is read; each may be as long as the limit.
_MOST_QUEUED = 2
# A host that vanished without a word frees its name after at most the sum.
PING_EVERY_S = 5.0
PING_ANSWER_S = 10.0
# Whoever does not answer the closing of a connection, or goes on sending, is cut off.
_CLOSE_S = 1.0


class Listener:
    """Listens on one address until closed. ``handler`` gets each connection that completed TLS and the upgrade."""

    def __init__(self, context: ssl.SSLContext, handler: Handler, *, name: str, message_limit_bytes: int) -> None:
        self._context = context
        self._serve = handler
        self._name = name
        self._message_limit_bytes = message_limit_bytes
        self._pending = asyncio.Semaphore(PENDING_HANDSHAKES)
        self._pending_of: Counter[str] = Counter()
        self._turnstile = Turnstile()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._connections: set[ServerConnection] = set()
        # What ServerConnection asks of its server.
        self.handler_tasks: set[asyncio.Task[None]] = set()

    def is_serving(self) -> bool:
        """Whether new connections may still complete."""
        return self._accepting is not None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port is the real one even if 0 was asked for."""
        if self._socket is None:
            raise RuntimeError("not listening")
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    async def start(self, host: str, port: int) -> None:
        """Begin to listen. Raises OSError if the address cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=1024)
        self._socket.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._socket), name=f"accept {self._name}")

    async def close(self) -> None:
        """Stop listening and close every connection."""
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        for handshake in self._handshakes:
            handshake.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        await asyncio.gather(*(c.close(1001, "the server stops") for c in tuple(self._connections)))
        await asyncio.gather(*self.handler_tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._pending.acquire()
            try:
                client, address = await loop.sock_accept(listening)
            except OSError as error:  # out of descriptors: wait for some to come back, do not spin
                self._pending.release()
                log.error("%s: cannot accept: %s", self._name, error)
                await asyncio.sleep(0.1)
                continue
            except BaseException:
                self._pending.release()
                raise
            source = source_of(address)
            if not self._has_room(source):
                self._pending.release()
                client.close()
                continue
            self._pending_of[source] += 1
            task = asyncio.create_task(self._shake_hands(client, source, peer_text(address)))
            self._handshakes.add(task)
            task.add_done_callback(partial(self._handshake_over, source))

    def _has_room(self, source: str) -> bool:
        """Whether one more handshake may begin; refusing it costs nothing, and an agent comes again."""
        if self._turnstile.suspects(source) and self._turnstile.full(source):
            return False
        return len(self._handshakes) < PENDING_HANDSHAKES // 2 or self._pending_of[source] < _PENDING_OF_ONE

    def _handshake_over(self, source: str, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self._pending.release()
        self._pending_of[source] -= 1
        if not self._pending_of[source]:
            del self._pending_of[source]

    async def _shake_hands(self, client: socket.socket, source: str, peer: str) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._turnstile.suspects(source):
                await self._turnstile.wait(source)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection, client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_LIMIT_S
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self._turnstile.offended(source)
            log.warning("%s: refused %s: TLS: %s", self._name, peer, tls_reason(error))
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise

    def _connection(self) -> ServerConnection:
        return ServerConnection(
            ServerProtocol(max_size=self._message_limit_bytes),
            cast(Server, self),
            ping_interval=PING_EVERY_S,
            ping_timeout=PING_ANSWER_S,
            close_timeout=_CLOSE_S,
            max_queue=_MOST_QUEUED,
        )

    async def handler(self, connection: ServerConnection) -> None:
        """The life of one connection; called by ``ServerConnection`` once TLS stands."""
        peer, source = peer_text(connection.remote_address), source_of(connection.remote_address)
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT_S):
                await connection.handshake()
            if connection.protocol.state is not OPEN:
                self._turnstile.offended(source)
                log.warning("%s: refused %s: not a WebSocket", self._name, peer)
                return
            self._connections.add(connection)
            connection.start_keepalive()
            async with connection:
                if await self._serve(connection) is False:
                    self._turnstile.offended(source)
        except ConnectionClosed:
            pass  # the handler's own affair; it has logged what there was to say
        except (OSError, TimeoutError) as error:
            log.warning("%s: lost %s: %s", self._name, peer, error or type(error).__name__)
        except Exception:
            log.exception("%s: the connection of %s ends by a bug", self._name, peer)
        finally:
            self._connections.discard(connection)
            connection.transport.abort()
            task = asyncio.current_task()
            if task is not None:
                self.handler_tasks.discard(task)


def allow_messages(connection: ServerConnection, limit_bytes: int) -> None:
    """From now on take messages of so many bytes: who has shown who it is may say more than a stranger."""
    connection.protocol.max_message_size = limit_bytes


def peer_text(address: object) -> str:
    """A peer's address as the log writes it."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unknown peer"


def tls_reason(error: OSError | TimeoutError) -> str:
    """Why a handshake failed, in the words of the TLS library, without its source lines."""
    if isinstance(error, ssl.SSLError) and error.reason:
        detail = getattr(error, "verify_message", "")
        return f"{error.reason.lower().replace('_', ' ')}{f' ({detail})' if detail else ''}"
    return str(error) or type(error).__name__
