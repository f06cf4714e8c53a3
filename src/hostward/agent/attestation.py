"""The agent proves what its host is: it answers the controller's questions, and keeps the certificate that this earns.

Owns the conversation and the certificate of the agent's channel. It must not judge, and it must not pulse: the sentinel
does, which is told here what the controller has been shown.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from hostward.agent.attestation_messages import (
    ATTESTATION_PATH,
    ATTESTATION_VERSION,
    EVIDENCE_LIMIT_BYTES,
    Activate,
    Activated,
    Ask,
    Changed,
    Present,
    Tell,
    Verdict,
    decode_from_verifier,
)
from hostward.agent.identity import (
    SERVER_NAME,
    HostIdentity,
    client_context,
    key_pem,
    make_key,
    make_request,
    save_identity,
)
from hostward.agent.messages import REFUSED, Message, Renew, Renewed, encode
from hostward.agent.proof import Proof, Shown
from hostward.attest.binding import Binding
from hostward.errors import HostwardError
from hostward.private_files import make_private_directory

log = logging.getLogger(__name__)

# The channel's certificate lies in a folder of its own below the agent's state.
ATTESTED_FOLDER = "attested"
_RETRY_FIRST_S, _RETRY_CAP_S = 0.25, 15.0
_OPEN_LIMIT_S = 10.0


class Attesting:
    """Keeps a host attested until cancelled. ``controller`` is ``HOST:PORT`` of the channel."""

    def __init__(self, controller: str, state: Path, joined: HostIdentity, proof: Proof) -> None:
        self._controller, self._state, self._joined, self._proof = controller, state, joined, proof
        self._folder = state / ATTESTED_FOLDER
        self._earned: HostIdentity | None = None
        self._key: ec.EllipticCurvePrivateKey | None = None  # asked for, not earned yet
        self._told: Shown | None = None  # what the last evidence was bound to
        self._changed = asyncio.Event()
        self._good = asyncio.Event()
        self.verdict: Verdict | None = None

    async def identity(self) -> HostIdentity:
        """What the channel is opened with; waits until there is a certificate that is still good."""
        while self._earned is None or self._earned.valid_until <= datetime.now(UTC):
            self._good.clear()
            await self._good.wait()
        return self._earned

    @property
    def folder(self) -> Path:
        """Where the channel's certificate lies."""
        return self._folder

    def refused(self) -> None:
        """The controller does not take the certificate any more: wait for the next one that evidence earns."""
        self._earned = None

    def changed(self) -> None:
        """Something measured is no longer what was proven: the controller is to ask."""
        self._changed.set()

    async def run(self) -> None:
        """Attest, and again after whatever ends the connection."""
        make_private_directory(self._folder)
        failures = 0
        while True:
            try:
                await self._converse()
            except ConnectionClosed as error:
                reason = error.rcvd.reason if error.rcvd is not None else "the connection was lost"
                log.warning("attestation: %s", reason or "the controller ended it")
                failures = failures + 1 if error.rcvd is not None and error.rcvd.code == REFUSED else 0
            except (OSError, TimeoutError, WebSocketException, HostwardError, msgspec.MsgspecError) as error:
                failures += 1
                log.warning("attestation at %s: %s", self._controller, error or type(error).__name__)
            longest_s = min(_RETRY_CAP_S, _RETRY_FIRST_S * 2 ** min(failures, 8))
            await asyncio.sleep(random.uniform(0.2, 1.0) * longest_s)  # noqa: S311

    async def _converse(self) -> None:
        async with connect(
            f"wss://{self._controller}{ATTESTATION_PATH}",
            ssl=client_context(self._state, self._joined.authority),
            server_hostname=SERVER_NAME,
            compression=None,
            proxy=None,
            max_size=EVIDENCE_LIMIT_BYTES,
            open_timeout=_OPEN_LIMIT_S,
            ping_interval=5.0,
            ping_timeout=10.0,
        ) as connection:
            tpm = await self._proof.identity()
            await _send(connection, Present(ATTESTATION_VERSION, tpm.ek, tpm.ak, tpm.ek_certificate, tpm.intermediates))
            renewed = make_key()
            helpers = [
                asyncio.create_task(self._tell_changes(connection), name="changes"),
                asyncio.create_task(self._renew_in_time(connection, renewed), name="renew"),
            ]
            try:
                while True:
                    await self._answer(connection, decode_from_verifier(await connection.recv(decode=False)), renewed)
            finally:
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)

    async def _answer(
        self, connection: ClientConnection, message: Message, renewed: ec.EllipticCurvePrivateKey
    ) -> None:
        match message:
            case Activate(id_object=id_object, encrypted_secret=encrypted):
                await _send(connection, Activated(await self._proof.activate(id_object, encrypted)))
            case Ask():
                await self._tell(connection, message)
            case Verdict():
                await self._take(message)
            case Renewed(certificate=certificate):
                self._joined = HostIdentity(key_pem(renewed), certificate, self._joined.authority)
                save_identity(self._state, self._joined)
                # The next connection stands on it; this one is good until its own certificate ends.
                log.info("the host's certificate was renewed, valid until %s", self._joined.valid_until.isoformat())

    async def _tell(self, connection: ClientConnection, ask: Ask) -> None:
        self._changed.clear()
        request = b""
        if self._earned is None or self._earned.renew_at <= datetime.now(UTC):
            self._key = make_key()
            request = make_request(self._key, self._joined.host)
        key = _public(self._key) if self._key is not None else b""
        shown = self._told = await self._proof.look()
        binding = Binding(
            tls_key=key,
            pulse_key=shown.pulse_key,
            boot_id=shown.boot_id,
            revision=shown.revision,
            programs=shown.attached.programs,
            policies=shown.attached.policies,
        )
        found = await self._proof.collect(binding.qualifying_data(ask.nonce), ask.ima_offset)
        await _send(
            connection,
            Tell(
                found.quote,
                found.signature,
                found.event_log,
                found.ima,
                request,
                key,
                shown.pulse_key,
                shown.boot_id,
                shown.revision,
                shown.attached.programs,
                shown.attached.policies,
            ),
        )

    async def _take(self, verdict: Verdict) -> None:
        if self.verdict is None or verdict.good != self.verdict.good:
            log.log(
                logging.INFO if verdict.good else logging.ERROR,
                "the controller finds this host %s%s",
                "trustworthy" if verdict.good else "not trustworthy: ",
                "; ".join(verdict.findings),
            )
        self.verdict = verdict
        if verdict.good and self._told is not None:
            await self._proof.attested(self._told, verdict.host, verdict.epoch)
        if verdict.certificate and self._key is not None:
            self._earned = HostIdentity(key_pem(self._key), verdict.certificate, self._joined.authority)
            save_identity(self._folder, self._earned)
            self._good.set()

    async def _tell_changes(self, connection: ClientConnection) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await _send(connection, Changed())

    async def _renew_in_time(self, connection: ClientConnection, key: ec.EllipticCurvePrivateKey) -> None:
        wait_s = (self._joined.renew_at - datetime.now(UTC)).total_seconds()
        await asyncio.sleep(max(0.0, wait_s))
        await _send(connection, Renew(make_request(key, self._joined.host)))


async def _send(connection: ClientConnection, message: Message) -> None:
    await connection.send(encode(message))


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
