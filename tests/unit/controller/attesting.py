"""A controller that attests, hosts with TPMs of software keys that attest to it over TLS, and a gate in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from bench.attester import Host
from bench.attester import host as good_host
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.attest.test_credential import activate

from hostward.agent.attestation import Attesting
from hostward.agent.identity import HostIdentity, load_identity
from hostward.agent.join import join
from hostward.agent.proof import Proof
from hostward.attest.appraisal import Evidence, Trust, appraise
from hostward.attest.credential import Credential
from hostward.attest.learning import learn
from hostward.attest.memory import VerifierMemory
from hostward.controller.attestation.runner import AttestationRunner
from hostward.controller.attestation.settings import AttestationMode, AttestationSettings, GateAddress
from hostward.controller.ledger import utc_now
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.datapath.attached import Attached
from hostward.errors import ChannelError
from hostward.gate.gate import Gate
from hostward.gate.memory import MemoryDriver
from hostward.gate.messages import Grant, Mode, Pulse, sign_grant, sign_pulse
from hostward.gate.port import PortState

LIMIT_S = 30.0


@dataclass(slots=True)
class SoftwareTpm:
    """Fulfils ``agent.proof.Prover``; also what is attached."""

    host: Host = field(default_factory=good_host)
    attached: Attached = field(default_factory=lambda: Attached({}, {}))
    spoil: Callable[[Evidence], Evidence] = lambda evidence: evidence
    asked: int = 0

    def identity(self) -> Evidence:
        return self.host.evidence(bytes(32))

    def activate(self, credential: bytes, secret: bytes) -> bytes:
        return activate(self.host.ek, Credential(credential, secret), self.host.ak_name())

    def measure(self, name: str, digest: bytes) -> bool:
        raise NotImplementedError

    def collect(self, qualifying: bytes, ima_offset: int) -> Evidence:
        self.asked += 1
        self.host.clock_ms += 1
        host = replace(self.host, binding=None)  # the agent has bound it already
        found = host.evidence(qualifying)
        return self.spoil(replace(found, ima=found.ima[ima_offset:]))


class LocalLink:
    """A gate in this process, reached as the controller reaches any; ``away`` is a gate that does not answer."""

    def __init__(self, name: str, ports: Mapping[str, str], key: Ed25519PrivateKey) -> None:
        self.name, self.ports, self.away, self._key = name, ports, False, key
        self.driver = MemoryDriver(ports, time.monotonic_ns)
        self.gate = Gate(name, self.driver, [key.public_key()], time.monotonic_ns)
        self.changed = asyncio.Event()

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def challenge(self, port: str) -> bytes:
        self._reach()
        return self.gate.challenge(port)

    async def apply(self, port: str, message: bytes) -> PortState:
        self._reach()
        state = self.gate.apply(port, message)
        self.changed.set()
        self.changed = asyncio.Event()
        return state

    async def states(self) -> Sequence[PortState]:
        self._reach()
        return [self.gate.state(port) for port in self.ports]

    async def release(self, port: str) -> PortState:
        self._reach()
        return self.gate.release(port)

    def sign(self, port: str, *, epoch: int, mode: Mode) -> bytes:
        """A grant that takes away, as another run of the controller would have signed it."""
        return sign_grant(self._key, Grant(self.name, port, bytes(32), epoch, 1, mode))

    def _reach(self) -> None:
        if self.away:
            raise ChannelError("the gate does not answer")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of the gate, at most for long."""
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                await self.changed.wait()


@dataclass(slots=True)
class LocalSentinel:
    """Fulfils ``agent.proof.Sentinel``; it pulses when a test says so."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    told: tuple[bytes, int] | None = None
    sequence: int = 0

    async def key(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    async def attested(self, host: bytes, epoch: int, state: Attached) -> str:
        self.told = (host, epoch)
        return ""

    async def changing(self) -> str:
        return ""

    async def pending(self, state: Attached) -> str:
        return ""

    async def alive(self) -> str:
        return ""

    def pulse(self, link: LocalLink, port: str) -> None:
        assert self.told is not None
        self.sequence += 1
        link.gate.pulse(port, sign_pulse(self.private, Pulse(*self.told, self.sequence, link.gate.nonce(port))))


@dataclass(slots=True)
class AttestedHost:
    """A host's side: its TPM, its sentinel, and the agent's part that attests."""

    tpm: SoftwareTpm
    sentinel: LocalSentinel
    attesting: Attesting
    identity: HostIdentity


@contextlib.asynccontextmanager
async def attesting_to(
    server: ControllerServer, folder: Path, identity: HostIdentity, tpm: SoftwareTpm
) -> AsyncIterator[AttestedHost]:
    """A joined host's attestation, as long as this lasts."""
    boot_id = folder / "boot_id"
    boot_id.write_text(f"boot {tpm.host.resets}")
    sentinel = LocalSentinel()
    proof = Proof(tpm, lambda: tpm.attached, lambda: 1, sentinel, boot_id)
    attesting = Attesting("{}:{}".format(*server.channel_address), folder, identity, proof)
    running = asyncio.create_task(attesting.run())
    try:
        yield AttestedHost(tpm, sentinel, attesting, identity)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        proof.close()


class Site:
    """The controller, and what a test needs of it."""

    def __init__(self, server: ControllerServer, runner: AttestationRunner, link: LocalLink, folder: Path) -> None:
        self.server, self.runner, self.link, self.folder = server, runner, link, folder
        self.controller = server.controller

    @contextlib.asynccontextmanager
    async def host(self, name: str, tpm: SoftwareTpm) -> AsyncIterator[AttestedHost]:
        """A host that attests, and joins first if it has not before."""
        folder = self.folder / name
        identity = load_identity(folder) or await self.enrol(name)
        async with attesting_to(self.server, folder, identity, tpm) as host:
            yield host

    async def enrol(self, name: str) -> HostIdentity:
        """Let a host join."""
        token = await self.controller.membership.make_token(name)
        return await join("{}:{}".format(*self.server.enrolment_address), token, name, self.folder / name)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; what hosts are judged by has no event, so it is looked at again and again."""
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def trust_folder(folder: Path, *tpms: SoftwareTpm) -> Path:
    """Roots and signed reference values that fit these hosts."""
    if folder.exists():
        return folder
    for name in ("roots", "reference", "reference-keys"):
        (folder / name).mkdir(parents=True)
    signer = Ed25519PrivateKey.generate()
    pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "reference-keys" / "operator.pem").write_bytes(pem)
    for number, tpm in enumerate(tpms):
        (folder / "roots" / f"maker-{number}.der").write_bytes(tpm.host.maker.root())
        nonce = bytes(32)
        judged = appraise(tpm.host.evidence(nonce), Trust(), nonce, utc_now(), VerifierMemory())
        content = json.dumps(learn(judged, f"host {number}")).encode()
        (folder / "reference" / f"{number}.json").write_bytes(content)
        (folder / "reference" / f"{number}.json.sig").write_bytes(signer.sign(content))
    return folder


@contextlib.asynccontextmanager
async def site(
    folder: Path,
    *tpms: SoftwareTpm,
    ports: Mapping[str, str] | None = None,
    mode: AttestationMode = AttestationMode.ENFORCE,
    evidence_s: float = 20.0,
    certificate_life_s: float = 300.0,
    webhooks: tuple[str, ...] = (),
) -> AsyncIterator[Site]:
    """A controller that trusts these hosts as they are now."""
    settings = AttestationSettings(
        trust_folder(folder / "trust", *tpms),
        mode,
        evidence_s=evidence_s,
        certificate_life=timedelta(seconds=certificate_life_s),
        webhooks=webhooks,
    )
    links: list[LocalLink] = []

    def link(gate: GateAddress, key: Ed25519PrivateKey, _on_event: object) -> LocalLink:
        links.append(LocalLink(gate.name, gate.ports, key))
        return links[-1]

    gates = (GateAddress("gate", "", "", ports or {"p1": "h1"}),)
    server = ControllerServer(
        ControllerSettings(folder / "controller", "127.0.0.1", 0, 0, attestation=settings, gates=gates), link
    )
    await server.start()
    runner = server.controller.attestation
    assert runner is not None
    try:
        yield Site(server, runner, links[0], folder)
    finally:
        await server.stop()
