"""Where the API listens: a Unix socket that only its owner may open, and TCP only with TLS and a bearer token.

Owns sockets and who may speak; what is said is ``app``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hostward.api.asking import PRINCIPAL, SocketDoor
from hostward.controller.access import Principal
from hostward.errors import AccessError, ConflictError, UsageError

log = logging.getLogger(__name__)

# A shorter token could be guessed over the network.
TOKEN_MIN_CHARACTERS = 32
# Whose token a text is; None if it does not count. Raises AccessError if it counts and grants nothing.
Authenticate = Callable[[str], Awaitable[Principal | None]]
# Puts on record that somebody at an address was refused: the reason, and whom they said they were, if they did.
Refused = Callable[[str, str, str], Awaitable[None]]
_UNAUTHORIZED = "the token is missing, wrong, expired or revoked"
_UNAUTHORIZED_HINT = "send it as `Authorization: Bearer TOKEN`"


@dataclass(frozen=True, slots=True)
class RemoteApi:
    """How the API is served beyond this machine."""

    address: str
    port: int
    certificate: Path
    key: Path
    authenticate: Authenticate
    refused: Refused


def read_token(path: Path) -> str:
    """A bearer token in a file. Raises UsageError if it cannot be read, is short, or others may read it too."""
    try:
        token = path.read_text().strip()
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise UsageError(f"the token cannot be read: {error.strerror}", subject=str(path)) from error
    if mode & 0o077:
        raise UsageError(f"others may read the token (mode {mode:04o})", subject=str(path), hint="chmod 600 it")
    if len(token) < TOKEN_MIN_CHARACTERS:
        raise UsageError(
            f"the token is shorter than {TOKEN_MIN_CHARACTERS} characters",
            subject=str(path),
            hint="make one: openssl rand -hex 32",
        )
    return token


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, path: Path, remote: RemoteApi | None = None) -> AsyncIterator[None]:
    """Serve ``app`` while the context is open. Raises OSError if an address cannot be had."""
    servers = [(_Server(_config(SocketDoor(app))), _private_socket(path))]
    if remote is not None:
        family = socket.AF_INET6 if ":" in remote.address else socket.AF_INET
        listening = socket.create_server((remote.address, remote.port), family=family)
        config = _config(BearerGate(app, remote.authenticate, remote.refused))
        config.ssl_certfile, config.ssl_keyfile = remote.certificate, remote.key
        servers.append((_Server(config), listening))
    tasks = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in servers]
    try:
        yield
    finally:
        for server, _ in servers:
            server.should_exit = server.force_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        _remove(path)


class BearerGate:
    """Lets only requests with a token that counts through to ``app``; refusals are logged with the peer's address."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate, refused: Refused) -> None:
        self._app = app
        self._authenticate = authenticate
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, token = given.partition(" ")
        host, port = scope.get("client") or ("?", 0)
        try:
            principal = await self._authenticate(token) if kind == "Bearer" else None
        except AccessError as error:
            log.warning("api: refused %s:%s: %s", host, port, error)
            await self._refused(host, error.what, error.subject)
            await _refuse(send, 403, error.what, error.subject, error.hint)
            return
        if principal is None:
            log.warning("api: refused %s:%s: no valid token", host, port)
            await self._refused(host, _UNAUTHORIZED, "")
            await _refuse(send, 401, _UNAUTHORIZED, "", _UNAUTHORIZED_HINT)
            return
        scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)


async def _refuse(send: Send, status: int, what: str, subject: str, hint: str) -> None:
    refusal = {"what": what, "subject": subject, "hint": hint, "problems": []}
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(refusal).encode()})


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the daemon has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)


def _private_socket(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_socket():
        raise ConflictError(
            "this is no socket, and is not removed for one", subject=str(path), hint="choose another path"
        )
    if _answers(path):
        raise ConflictError("another controller serves its API here", subject=str(path), hint="choose another socket")
    _remove(path)
    listening = socket.socket(socket.AF_UNIX)
    # Created with its mode: there is no moment at which others could connect.
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    # At once, not when the server comes to it: until then a second controller would find nobody here.
    listening.listen()
    return listening


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether somebody listens on a socket that a killed process may also have left behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
