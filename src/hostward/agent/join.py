"""Joining: from a token to a kept identity. Trusts the controller by the token's pin, and by nothing before it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import msgspec
from cryptography import x509
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from hostward.agent.enrolment_messages import AskAuthority, AuthorityIs, FromDesk, FromHost, Join, Joined, Refused
from hostward.agent.identity import SERVER_NAME, HostIdentity, key_pem, make_key, make_request, save_identity
from hostward.agent.join_token import JoinToken, check_host_name, pin_of
from hostward.errors import ChannelError, EnrolmentError
from hostward.private_files import make_private_directory
from hostward.wire import Reader

ANSWER_LIMIT_S = 20.0

_decoder: Reader[FromDesk] = Reader(FromDesk)


async def join(controller: str, token: JoinToken, host: str, directory: Path) -> HostIdentity:
    """Redeem ``token`` at the enrolment address ``controller`` (``HOST:PORT``) and keep the identity in ``directory``.

    Raises EnrolmentError if either side refuses the other, ChannelError if they do not reach each other.
    """
    check_host_name(host)
    make_private_directory(directory)
    authority = await _pinned_authority(controller, token.pin)
    key = make_key()
    proven = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    proven.minimum_version = ssl.TLSVersion.TLSv1_3
    proven.load_verify_locations(cadata=authority.decode())
    answer = await _ask(controller, Join(host, token.secret, make_request(key, host)), proven)
    if isinstance(answer, Refused):
        raise EnrolmentError(answer.reason, subject=host, hint=answer.hint)
    if not isinstance(answer, Joined):
        raise ChannelError("the controller answered something else", subject=controller)
    identity = HostIdentity(key_pem(key), answer.certificate, authority)
    save_identity(directory, identity)
    return identity


async def _pinned_authority(controller: str, pin: str) -> bytes:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.minimum_version = ssl.TLSVersion.TLSv1_3
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE  # what comes is compared with the pin, and only then used to verify
    answer = await _ask(controller, AskAuthority(), stranger)
    if not isinstance(answer, AuthorityIs):
        raise ChannelError("the controller answered something else", subject=controller)
    try:
        seen = pin_of(x509.load_pem_x509_certificate(answer.certificate))
    except ValueError as error:
        raise ChannelError("the controller's CA is malformed", subject=controller) from error
    if seen != pin:
        raise EnrolmentError(
            "it is not the controller that made the token: its CA has another key",
            subject=controller,
            hint="check the address; if it is right, somebody answers in the controller's place",
        )
    return answer.certificate


async def _ask(controller: str, question: FromHost, context: ssl.SSLContext) -> FromDesk:
    try:
        async with (
            asyncio.timeout(ANSWER_LIMIT_S),
            connect(
                f"wss://{controller}/enrol", ssl=context, server_hostname=SERVER_NAME, compression=None, proxy=None
            ) as connection,
        ):
            await connection.send(msgspec.msgpack.encode(question))
            answer: FromDesk = _decoder.decode(await connection.recv(decode=False))
            return answer
    except ssl.SSLError as error:
        raise EnrolmentError(f"it did not prove to be the controller: {error.reason}", subject=controller) from error
    except (OSError, TimeoutError, WebSocketException, msgspec.MsgspecError, ValueError) as error:
        raise ChannelError(
            f"no answer from the enrolment port: {error or type(error).__name__}",
            subject=controller,
            hint="check the address and the port, and that the controller runs",
        ) from error
