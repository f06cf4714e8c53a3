"""The attestation of one host, over a connection that stands on the certificate it joined by.

The desk asks, never the host: a host can neither choose its nonce nor flood the verifier. It is asked again when it is
time, when it says that something changed, and when the controller wants to know.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from datetime import datetime
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from hostward.agent.attestation_messages import (
    ATTESTATION_VERSION,
    Activate,
    Activated,
    Ask,
    Changed,
    Present,
    Tell,
    Verdict,
    decode_from_host,
)
from hostward.agent.messages import encode
from hostward.attest.appraisal import Evidence
from hostward.attest.binding import Binding
from hostward.attest.credential import make_credential
from hostward.attest.ek_certificate import ek_hash
from hostward.attest.public import TpmPublic, check_attestation_key, parse_public
from hostward.controller.attestation.service import Attestation
from hostward.controller.attestation.standing import Standing
from hostward.controller.authority import peer_of
from hostward.controller.membership import Membership
from hostward.errors import ChannelError, ConflictError, EnrolmentError, HostwardError
from hostward.listener import peer_text

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", Present, Activated, Changed, Tell)

_ANSWER_LIMIT_S = 30.0  # a TPM signs in half a second, a slow one in several
_LEAST_PAUSE_S = 0.2  # between two questions, whatever a host says of changes
_LEAST_PAUSE_BAD_S = 2.0  # after an answer that was bad


class AttestationDesk:
    """Handles the connections on which hosts attest."""

    def __init__(self, attestation: Attestation, membership: Membership) -> None:
        self._attestation, self._membership = attestation, membership
        self._present: dict[str, str] = {}
        self._again: dict[str, asyncio.Event] = {}

    def ask_again(self, host: str) -> None:
        """Ask a host now, if it is there."""
        if host in self._again:
            self._again[host].set()

    async def serve(self, connection: ServerConnection) -> None:
        """One host, until it leaves or is refused."""
        peer = peer_text(connection.remote_address)
        certificate = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        host = ""
        try:
            host, serial, until = peer_of(certificate)
            self._membership.check_joined(host, serial)
            if host in self._present:
                raise ConflictError(f"host {host} attests already, from {self._present[host]}")
            self._present[host], self._again[host] = peer, asyncio.Event()
            try:
                await self._attend(connection, host, peer, until)
            finally:
                del self._present[host], self._again[host]
                self._attestation.standing(host).connected = False
        except (HostwardError, msgspec.MsgspecError, TimeoutError) as error:
            what = str(error).splitlines()[0] if str(error) else "no answer in time"
            log.warning("attestation: refused %s (%s): %s", host or "a host", peer, what)
            if host:
                self._attestation.standing(host).refused = what
            await connection.close(4001, what.encode()[:120].decode(errors="ignore"))
        except ConnectionClosed:
            pass

    async def _attend(self, connection: ServerConnection, host: str, peer: str, until: datetime) -> None:
        present = await self._receive(connection, Present)
        if present.version != ATTESTATION_VERSION:
            raise ChannelError(f"the host speaks attestation {present.version}, this controller {ATTESTATION_VERSION}")
        ek, ak = parse_public(present.ek), parse_public(present.ak)
        check_attestation_key(ak)
        self._attestation.check_tpm(host, ek_hash(ek))
        standing = self._attestation.standing(host)
        standing.connected, standing.peer = True, peer
        if standing.record is None or standing.record.ak_name != ak.name.hex():
            await self._activate(connection, ek, ak)
        life_s = (until - self._membership.now).total_seconds()
        async with asyncio.timeout(life_s):
            while True:
                self._again[host].clear()
                pause_s = await self._ask(connection, host, present, ak)
                await self._until_due(connection, host, pause_s)

    async def _activate(self, connection: ServerConnection, ek: TpmPublic, ak: TpmPublic) -> None:
        """Whoever returns the secret has both keys in one TPM. Raises EnrolmentError."""
        secret = secrets.token_bytes(32)
        credential = make_credential(ek, ak.name, secret, secrets.token_bytes(ek.hash.size))
        await connection.send(encode(Activate(credential.id_object, credential.encrypted_secret)))
        answer = await self._receive(connection, Activated)
        if not hmac.compare_digest(answer.secret, secret):
            raise EnrolmentError("its attestation key is not in the TPM that it shows")

    async def _ask(self, connection: ServerConnection, host: str, present: Present, ak: TpmPublic) -> float:
        """Ask, judge and answer once; how long until the next time."""
        attestation = self._attestation
        standing = attestation.standing(host)
        nonce = secrets.token_bytes(32)
        await connection.send(encode(Ask(nonce, standing.checkpoint.offset)))
        tell = await self._receive(connection, Tell)
        binding = Binding(tell.tls_key, tell.pulse_key, b"", tell.boot_id, tell.revision, tell.programs, tell.policies)
        evidence = Evidence(
            tell.quote,
            tell.signature,
            present.ak,
            tell.event_log,
            tell.ima,
            present.ek,
            present.ek_certificate,
            tuple(present.intermediates),
            binding,
        )
        standing = await attestation.judge(host, evidence, nonce, ak.name)
        certificate = self._certificate(host, standing, tell)
        again_s = attestation.settings.evidence_s
        record = standing.record
        verdict = Verdict(
            standing.good,
            list(standing.against),
            bytes.fromhex(record.ek) if record else b"",
            record.boots if record else 0,
            certificate,
            again_s,
        )
        await connection.send(encode(verdict))
        return again_s

    def _certificate(self, host: str, standing: Standing, tell: Tell) -> bytes:
        """A certificate for the channel, over the key that the quote is bound to and no other. Raises EnrolmentError."""
        if not tell.request or not standing.good:
            return b""
        if _key_of(tell.request) != tell.tls_key:
            raise EnrolmentError("the signing request is not over the key that its quote is bound to", subject=host)
        life = self._attestation.settings.certificate_life
        issued = self._membership.authority.issue_host(
            tell.request, host, self._membership.now, life, standing.record.ek if standing.record else ""
        )
        standing.remember_serial(issued.serial)
        return issued.pem

    async def _until_due(self, connection: ServerConnection, host: str, pause_s: float) -> None:
        """Wait for the time, for the host's word that something changed, or for somebody here who wants to know."""
        good = self._attestation.standing(host).good
        await asyncio.sleep(
            _LEAST_PAUSE_S if good else _LEAST_PAUSE_BAD_S
        )  # a bound on the rate, not a wait for something
        wanted = asyncio.ensure_future(self._again[host].wait())
        told = asyncio.ensure_future(self._receive(connection, Changed, pause_s))
        try:
            done, _ = await asyncio.wait({wanted, told}, return_when=asyncio.FIRST_COMPLETED)
            if told in done:
                try:
                    told.result()
                except TimeoutError:
                    return
        finally:
            wanted.cancel()
            if not told.done():
                told.cancel()
            await asyncio.gather(wanted, told, return_exceptions=True)

    async def _receive(
        self, connection: ServerConnection, kind: type[_Kind], limit_s: float = _ANSWER_LIMIT_S
    ) -> _Kind:
        """The next message of a kind; that something changed may be said at any time."""
        async with asyncio.timeout(limit_s):
            while True:
                message = decode_from_host(await connection.recv(decode=False))
                if isinstance(message, kind):
                    return message
                if not isinstance(message, Changed):
                    raise ChannelError(f"{type(message).__name__} in place of {kind.__name__}")


def _key_of(request: bytes) -> bytes:
    """SubjectPublicKeyInfo of a signing request. Raises EnrolmentError."""
    try:
        key = x509.load_pem_x509_csr(request).public_key()
    except ValueError as error:
        raise EnrolmentError("the signing request is malformed") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
