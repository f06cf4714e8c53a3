"""Who sends a request, and how far the action that it asks leave for reaches. What may be done is ``access``'s."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Message

from hostward.controller.access import Action, Authentication, Principal, Role, Scope, scope_of
from hostward.errors import AccessError

# Where a request carries them, put there by the door it came through.
PRINCIPAL = "hostward.principal"
ACTION = "hostward.action"

_OPERATOR = "operator"
_AUTHOR = re.compile(r"[\w.@+-]{1,64}", re.ASCII)


class SocketDoor:
    """The Unix socket, which only its owner may open: whoever reaches it is the platform operator.

    ``Hostward-Author`` is what they call themselves, for history; it decides nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(b"hostward-author", b"").decode("latin-1")
        name = given if _AUTHOR.fullmatch(given) else _OPERATOR
        scope[PRINCIPAL] = Principal(name, Authentication.SOCKET, Role.PLATFORM_OPERATOR)
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Asks:
    """A dependency of an operation: the action it asks leave for. Its value is how far that reaches."""

    action: Action

    async def __call__(self, request: Request) -> Scope:
        """Raises AccessError if it reaches nothing."""
        principal = request.scope.get(PRINCIPAL)
        if not isinstance(principal, Principal):
            raise AccessError("nobody was authenticated for this request", hint="use the Unix socket or a token")
        request.scope[ACTION] = self.action
        return scope_of(principal, self.action)
