"""The enrolment port: a host redeems its join token for a certificate.

Two questions, each on its own connection: the CA's certificate (public; the host compares it with its token's pin), then,
over TLS that the pinned CA proves, the join itself. Every refusal is logged with the peer's address.
"""

from __future__ import annotations

import logging

import msgspec
from websockets.asyncio.server import ServerConnection

from hostward.agent.enrolment_messages import (
    AskAuthority,
    AuthorityIs,
    FromHost,
    Join,
    Joined,
    Refused,
)
from hostward.controller.membership import Membership
from hostward.errors import EnrolmentError, HostwardError
from hostward.listener import peer_text
from hostward.wire import Reader

log = logging.getLogger(__name__)

ENROLMENT_MESSAGE_LIMIT_BYTES = 16 * 1024

_decoder: Reader[FromHost] = Reader(FromHost)


class EnrolmentDesk:
    """Handles the connections of the enrolment port."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    async def serve(self, connection: ServerConnection) -> None:
        """Answer one question and close."""
        peer = peer_text(connection.remote_address)
        try:
            question = _decoder.decode(await connection.recv(decode=False))
        except msgspec.MsgspecError as error:
            log.warning("enrolment: refused %s: malformed: %s", peer, error)
            return
        answer: AuthorityIs | Joined | Refused
        if isinstance(question, AskAuthority):
            answer = AuthorityIs(self._membership.authority.pem)
        else:
            answer = await self._join(question, peer)
        await connection.send(msgspec.msgpack.encode(answer))

    async def _join(self, question: Join, peer: str) -> Joined | Refused:
        try:
            certificate = await self._membership.join(question.host, question.secret, question.request)
        except HostwardError as error:
            log.warning("enrolment: refused %s as host %r: %s", peer, question.host, error.what)
            # Only what concerns the token goes to a stranger; the rest stays in the log.
            reason = error if isinstance(error, EnrolmentError) else EnrolmentError("the controller could not enrol it")
            return Refused(reason.what, reason.hint)
        log.info("enrolment: %s joined as host %s", peer, question.host)
        return Joined(certificate, self._membership.authority.pem)
