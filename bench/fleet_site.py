"""A site on disk for the fleet benchmark: hosts that joined, whose TPMs are known, before a power failure ended them all.

Every host has an attestation key, an endorsement key with its certificate, and the certificate of its joining, of its own.
Boot log and IMA list are the same for all, as on machines of one kind; the key behind the TLS certificates is shared, which
costs the controller nothing less.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.attester import EK_ATTRIBUTES, Host, host, public_area, quote_message, selection, sign, sized
from hostward.agent.attestation_messages import ATTESTATION_VERSION, Ask, Present, Tell
from hostward.agent.identity import HostIdentity, key_pem, make_key, make_request, save_identity
from hostward.attest.algorithms import SHA256
from hostward.attest.appraisal import Trust, appraise
from hostward.attest.binding import Binding
from hostward.attest.ek_certificate import ek_hash
from hostward.attest.learning import learn
from hostward.attest.memory import VerifierMemory
from hostward.attest.public import parse_public
from hostward.controller.authority import open_authority
from hostward.controller.ledger import utc_now
from hostward.controller.recovery import DATABASE_FILE
from hostward.private_files import make_private_directory
from hostward.store.records import AttestationRecord, Change, HostRecord, HostState
from hostward.store.sqlite import SqliteStore

FILES = 999  # and the boot's aggregate: 1,000 IMA entries
_PCRS = (*range(10), 10, 14)
_BOOT_ID = "boot 3"


@dataclass(slots=True)
class SimulatedHost:
    """One host: what it presents, and how it answers."""

    name: str
    folder: Path
    ak: ec.EllipticCurvePrivateKey
    ek: bytes
    ek_certificate: bytes
    like: Host
    digest: bytes
    request: bytes
    tls_key: bytes
    clock_ms: int = 60_000

    def present(self) -> Present:
        """What it begins with."""
        ca = self.like.maker.ca()
        return Present(ATTESTATION_VERSION, self.ek, sized(public_area(self.ak)), self.ek_certificate, (ca,))

    def tell(self, ask: Ask, *, request: bool = False, forged: bool = False) -> Tell:
        """Evidence for a question; ``request`` asks for a certificate too, ``forged`` spoils the signature."""
        self.clock_ms += 1
        programs = {"hw_egress": bytes(32), "hw_ingress": bytes(32)}
        binding = Binding(
            tls_key=self.tls_key,
            pulse_key=bytes(32),
            boot_id=_BOOT_ID.encode(),
            revision=1,
            programs=programs,
            policies=programs,
        )
        message = quote_message(
            binding.qualifying_data(ask.nonce), self.digest, (selection(SHA256, _PCRS),), clock_ms=self.clock_ms
        )
        signature = sign(self.ak, message)
        return Tell(
            message,
            signature[:-1] + bytes((signature[-1] ^ 1,)) if forged else signature,
            bytes(self.like.log.data),
            bytes(self.like.ima.data[ask.ima_offset :]),
            self.request if request else b"",
            self.tls_key,
            binding.pulse_key,
            binding.boot_id,
            binding.revision,
            programs,
            programs,
        )


def make_site(folder: Path, count: int) -> list[SimulatedHost]:
    """Write a controller's state and so many hosts' identities. Every host was admitted, and has to prove a new boot."""
    like = host(files=FILES)
    _write_trust(folder / "trust", like)
    now = utc_now()
    state = folder / "controller"
    make_private_directory(state)
    authority = open_authority(state, now)
    key = make_key()
    tls_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = like.digest()
    hosts, records, proven = [], {}, {}
    for number in range(count):
        name = f"h{number}"
        ek = ec.generate_private_key(ec.SECP256R1())
        made = SimulatedHost(
            name,
            folder / name,
            ec.generate_private_key(ec.SECP256R1()),
            public_area(ek, attributes=EK_ATTRIBUTES, endorsement=True),
            like.maker.endorse(ek),
            like,
            digest,
            make_request(key, name),
            tls_key,
        )
        issued = authority.issue_host(made.request, name, now, timedelta(days=1))
        make_private_directory(made.folder)
        save_identity(made.folder, HostIdentity(key_pem(key), issued.pem, authority.pem))
        records[name] = HostRecord(name, HostState.UNTRUSTED, now, (issued.serial,), issued.until)
        ak_name = replace(like, ak=made.ak).ak_name().hex()
        proven[name] = AttestationRecord(ek_hash(parse_public(made.ek)), ak_name, 1, 1, 2, 0, b"boot 2".hex(), 1)
        hosts.append(made)
    store = SqliteStore(state / DATABASE_FILE)
    store.commit(0, Change(now, "bench", f"{count} hosts joined", hosts=records))
    store.put_attestations(proven)
    store.close()
    return hosts


def _write_trust(folder: Path, like: Host) -> None:
    for name in ("roots", "reference", "reference-keys"):
        (folder / name).mkdir(parents=True)
    signer = Ed25519PrivateKey.generate()
    pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "reference-keys" / "operator.pem").write_bytes(pem)
    (folder / "roots" / "maker.der").write_bytes(like.maker.root())
    nonce = bytes(32)
    judged = appraise(like.evidence(nonce), Trust(), nonce, utc_now(), VerifierMemory())
    content = json.dumps(learn(judged, "bench")).encode()
    (folder / "reference" / "bench.json").write_bytes(content)
    (folder / "reference" / "bench.json.sig").write_bytes(signer.sign(content))
