"""One host attests: its TPM is shown once, then it is asked for evidence, again and again.

The controller asks, never the host: a host can neither choose its nonce nor flood the verifier. It is asked again when it
is time, when it says that something changed, and when somebody here wants to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from hostward.agent.attestation_messages import (
    ATTESTATION_VERSION,
    EVIDENCE_LIMIT_BYTES,
    PRESENT_LIMIT_BYTES,
    Activate,
    Activated,
    Ask,
    Changed,
    Present,
    Tell,
    Verdict,
    decode_from_host,
)
from hostward.agent.messages import Message, Renew, Renewed, encode
from hostward.attest.appraisal import Evidence
from hostward.attest.binding import Binding
from hostward.attest.credential import make_credential
from hostward.attest.ek_certificate import ek_hash
from hostward.attest.ima import Checkpoint
from hostward.attest.public import TpmPublic, check_attestation_key, parse_public
from hostward.controller.attestation.service import Attestation
from hostward.controller.attestation.settings import AttestationMode
from hostward.controller.attestation.standing import Standing
from hostward.controller.membership import Membership
from hostward.errors import ChannelError, EnrolmentError
from hostward.listener import allow_messages

_ANSWER_LIMIT_S = 30.0  # a TPM signs in half a second, a slow one in several
# Between two questions, whatever a host says of changes: longer each time that it says so again, and after a bad answer.
_PAUSE_S, _PAUSE_CAP_S, _PAUSE_BAD_S = 0.2, 5.0, 2.0
# After bad evidence a host rests for so many times what judging it took: no host has more than a fiftieth of the verifier.
_REST_SHARE = 50.0

_Kind = TypeVar("_Kind", Present, Activated, Tell, Changed)


class Conversation:
    """The controller's side. ``again`` asks at once."""

    def __init__(
        self,
        connection: ServerConnection,
        peer: str,
        host: str,
        serial: str,
        attestation: Attestation,
        membership: Membership,
    ) -> None:
        self.peer, self.host = peer, host
        self.again = asyncio.Event()
        self._connection, self._serial = connection, serial
        self._attestation, self._membership = attestation, membership
        self._renewed = False
        self._hurried = 0  # questions in a row that the host's own word brought about

    async def run(self) -> None:
        """Until the host leaves (raises ConnectionClosed) or is refused (EnrolmentError, EvidenceError, ChannelError)."""
        present = await self._receive(Present)
        if present.version != ATTESTATION_VERSION:
            raise ChannelError(f"the host speaks attestation {present.version}, this controller {ATTESTATION_VERSION}")
        ek, ak = parse_public(present.ek), parse_public(present.ak)
        check_attestation_key(ak)
        self._attestation.check_tpm(self.host, ek_hash(ek))
        standing = self._attestation.standing(self.host)
        standing.connected, standing.peer = True, self.peer
        standing.checkpoint = Checkpoint()  # it may have been started anew since
        if standing.record is None or standing.record.ak_name != ak.name.hex():
            await self._activate(ek, ak)
        while True:
            await self._rest(standing)  # also at the start: a new connection is no way around it
            self.again.clear()
            standing = await self._ask(present, ak)
            await self._until_due(standing)

    async def _activate(self, ek: TpmPublic, ak: TpmPublic) -> None:
        """Whoever returns the secret has both keys in one TPM. Raises EnrolmentError."""
        secret = secrets.token_bytes(32)
        credential = make_credential(ek, ak.name, secret, secrets.token_bytes(ek.hash.size))
        await self._send(Activate(credential.id_object, credential.encrypted_secret))
        answer = await self._receive(Activated)
        if not hmac.compare_digest(answer.secret, secret):
            raise EnrolmentError("its attestation key is not in the TPM that it shows", subject=self.host)

    async def _ask(self, present: Present, ak: TpmPublic) -> Standing:
        """Ask, judge and answer once."""
        attestation = self._attestation
        nonce, generation = secrets.token_bytes(32), attestation.generation
        tell = await self._told(nonce, attestation.standing(self.host))
        if generation != attestation.generation:
            # What is trusted was read anew meanwhile, and has to see everything from the start.
            return await self._ask(present, ak)
        binding = Binding(
            tls_key=tell.tls_key,
            pulse_key=tell.pulse_key,
            boot_id=tell.boot_id,
            revision=tell.revision,
            programs=tell.programs,
            policies=tell.policies,
        )
        evidence = Evidence(
            quote=tell.quote,
            signature=tell.signature,
            ak=present.ak,
            event_log=tell.event_log,
            ima=tell.ima,
            ek=present.ek,
            ek_certificate=present.ek_certificate,
            intermediates=tuple(present.intermediates),
            binding=binding,
        )
        standing = await attestation.judge(self.host, evidence, nonce, ak.name)
        pause_s = min(_PAUSE_CAP_S, _PAUSE_S * 2**self._hurried)
        if not standing.good:
            pause_s = max(_PAUSE_BAD_S, _REST_SHARE * standing.took_s)
        standing.rests_until_s = asyncio.get_running_loop().time() + pause_s
        record = standing.record
        await self._send(
            Verdict(
                standing.good,
                list(standing.against),
                bytes.fromhex(record.ek) if record else b"",
                record.boots if record else 0,
                self._certificate(standing, tell),
                attestation.settings.evidence_s,
            )
        )
        return standing

    async def _told(self, nonce: bytes, standing: Standing) -> Tell:
        """Ask, and the answer. Whose did not fit the last time may say more, when it is its turn: few do at once."""
        ask = Ask(nonce, standing.checkpoint.offset)
        if standing.large and not standing.checkpoint.entries:
            async with self._attestation.large:
                allow_messages(self._connection, EVIDENCE_LIMIT_BYTES)
                try:
                    await self._send(ask)
                    return await self._receive(Tell)
                finally:
                    allow_messages(self._connection, PRESENT_LIMIT_BYTES)
        await self._send(ask)
        try:
            return await self._receive(Tell)
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                standing.large = True
            raise

    def _certificate(self, standing: Standing, tell: Tell) -> bytes:
        """A certificate for the channel, over the key that the quote is bound to and no other. Raises EnrolmentError."""
        audit = self._attestation.settings.mode is AttestationMode.AUDIT  # what it finds takes nothing
        if not tell.request or not (standing.good or audit) or standing.record is None:
            return b""
        if _key_of(tell.request) != tell.tls_key:
            raise EnrolmentError(
                "the signing request is not over the key that its quote is bound to", subject=self.host
            )
        life = self._attestation.settings.certificate_life
        issued = self._membership.authority.issue_host(
            tell.request, self.host, self._membership.now, life, standing.record.ek
        )
        standing.remember_serial(issued.serial)
        return issued.pem

    async def _rest(self, standing: Standing) -> None:
        """Until the host may be asked again, or has left."""
        rests_s = standing.rests_until_s - asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, rests_s)):
                await self._connection.wait_closed()

    async def _until_due(self, standing: Standing) -> None:
        """Wait for the time, for the host's word that something changed, or for somebody here who wants to know."""
        await self._rest(standing)
        wanted = asyncio.ensure_future(self.again.wait())
        told = asyncio.ensure_future(self._receive(Changed, self._attestation.settings.evidence_s))
        try:
            await asyncio.wait({wanted, told}, return_when=asyncio.FIRST_COMPLETED)
            if told.done() and not isinstance(told.exception(), TimeoutError):
                told.result()
                self._hurried = min(self._hurried + 1, 8)
            else:
                self._hurried = 0
        finally:
            wanted.cancel()
            told.cancel()
            await asyncio.gather(wanted, told, return_exceptions=True)

    async def _send(self, message: Message) -> None:
        await self._connection.send(encode(message))

    async def _receive(self, kind: type[_Kind], limit_s: float = _ANSWER_LIMIT_S) -> _Kind:
        """The next message of a kind. That something changed, and that its certificate ends, it may say at any time."""
        async with asyncio.timeout(limit_s):
            while True:
                message = decode_from_host(await self._connection.recv(decode=False))
                if isinstance(message, kind):
                    return message
                if isinstance(message, Renew):
                    if self._renewed:  # each is a signature and a write to the disk
                        raise ChannelError("the certificate was renewed on this connection already")
                    self._renewed = True
                    await self._send(Renewed(await self._membership.renew(self.host, self._serial, message.request)))
                elif not isinstance(message, Changed):
                    raise ChannelError(f"{type(message).__name__} in place of {kind.__name__}")


def _key_of(request: bytes) -> bytes:
    """SubjectPublicKeyInfo of a signing request. Raises EnrolmentError."""
    try:
        key = x509.load_pem_x509_csr(request).public_key()
    except ValueError as error:
        raise EnrolmentError("the signing request is malformed") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
