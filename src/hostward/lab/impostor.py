"""What somebody with a host's stolen certificate sends to the controller: run in the host's network, by tests and the demo.

`python -m hostward.lab.impostor KIND CONTROLLER STATE TCTI BOOT REVISION` prints what the controller made of it, as JSON.
KIND is `other-tpm` (TCTI is another TPM's), `replay` (a quote for an earlier nonce), `relay` (a quote that is bound to the
key of the true agent, with a request for another), or `rollback` (the monitor measured an object that nobody knows).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hostward.agent.attestation_messages import (
    ATTESTATION_PATH,
    ATTESTATION_VERSION,
    EVIDENCE_LIMIT_BYTES,
    Activate,
    Activated,
    Ask,
    Present,
    Tell,
    Verdict,
    decode_from_verifier,
)
from hostward.agent.identity import SERVER_NAME, client_context, load_identity, make_key, make_request
from hostward.agent.measured import Monitor
from hostward.agent.messages import encode
from hostward.attest.binding import Binding
from hostward.attester import Attester, AttesterSettings
from hostward.lab.tpm import BOOT_LOG, IMA_LOG

KINDS = ("other-tpm", "replay", "relay", "rollback")
_LIMIT_S = 30.0


class Impostor:
    """One attempt. ``boot`` is the folder of the host's logs."""

    def __init__(self, kind: str, state: Path, tcti: str, boot: Path, revision: int) -> None:
        self._kind, self._state, self._revision = kind, state, revision
        # Another TPM's key would overwrite the host's own.
        folder = state / ("impostor" if kind == "other-tpm" else "tpm")
        self._attester = Attester(AttesterSettings(tcti, folder, boot / BOOT_LOG, boot / IMA_LOG))
        self._boot_id = (boot / "boot_id").read_text().strip().encode()
        self._before: bytes | None = None

    async def attempt(self, controller: str) -> Mapping[str, object]:
        """What the controller made of it: a verdict, or why it closed the connection."""
        identity = load_identity(self._state)
        assert identity is not None
        if self._kind == "rollback":
            Monitor("rollback").measure(self._attester.measure)
            self._attester.measure("object:endpoint.bpf.o", hashlib.sha256(b"an older object").digest())
        tpm = self._attester.identity()
        context = client_context(self._state, identity.authority)
        async with (
            asyncio.timeout(_LIMIT_S),
            connect(
                f"wss://{controller}{ATTESTATION_PATH}",
                ssl=context,
                server_hostname=SERVER_NAME,
                compression=None,
                proxy=None,
                max_size=EVIDENCE_LIMIT_BYTES,
            ) as connection,
        ):
            present = Present(ATTESTATION_VERSION, tpm.ek, tpm.ak, tpm.ek_certificate, tpm.intermediates)
            await connection.send(encode(present))
            try:
                while True:
                    message = decode_from_verifier(await connection.recv(decode=False))
                    if isinstance(message, Activate):
                        secret = self._attester.activate(message.id_object, message.encrypted_secret)
                        await connection.send(encode(Activated(secret)))
                    elif isinstance(message, Ask):
                        await self._tell(connection, message, identity.host)
                    elif isinstance(message, Verdict):
                        return {
                            "good": message.good,
                            "findings": list(message.findings),
                            "certificate": bool(message.certificate),
                        }
            except ConnectionClosed as error:
                return {
                    "good": False,
                    "closed": error.rcvd.reason if error.rcvd is not None else "",
                    "certificate": False,
                }

    async def _tell(self, connection: ClientConnection, ask: Ask, host: str) -> None:
        key = make_key()
        bound = _public(make_key()) if self._kind == "relay" else _public(key)
        nonce = bytes(32) if self._kind == "replay" else ask.nonce
        binding = Binding(tls_key=bound, boot_id=self._boot_id, revision=self._revision)
        found = self._attester.collect(binding.qualifying_data(nonce), ask.ima_offset)
        await connection.send(
            encode(
                Tell(
                    found.quote,
                    found.signature,
                    found.event_log,
                    found.ima,
                    make_request(key, host),
                    _public(key),
                    b"",
                    self._boot_id,
                    self._revision,
                    {},
                    {},
                )
            )
        )


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


if __name__ == "__main__":
    _, kind, controller, state, tcti, boot, revision = sys.argv
    made = Impostor(kind, Path(state), tcti, Path(boot), int(revision))
    print(json.dumps(asyncio.run(made.attempt(controller))))
