"""A gate of one port over the driver in memory, and those who speak to it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.gate.gate import Enforcement, Gate
from hostward.gate.memory import MemoryDriver
from hostward.gate.messages import Grant, Mode, Pulse, sign_grant, sign_pulse

MS = 1_000_000
HOST, OTHER = b"h" * 32, b"o" * 32


class Lab:
    """Times in milliseconds since the gate started, at a monotonic clock that moves when a test says so."""

    def __init__(self, enforcement: Enforcement = Enforcement.ENFORCE) -> None:
        self.now_ns = 10**15
        self.controller, self.sentinel = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.driver = MemoryDriver(["p"], lambda: self.now_ns)
        self._enforcement = enforcement
        self.restart()

    def restart(self) -> None:
        """The gate's process dies and comes back; the driver is what it was."""
        keys = [self.controller.public_key()]
        self.gate = Gate("g", self.driver, keys, lambda: self.now_ns, self._enforcement)
        self.pulses = 0
        self.nonce = self.gate.nonce("p")

    def pass_ms(self, ms: float) -> None:
        self.now_ns += round(ms * MS)

    def grant(self, sequence: int = 1, epoch: int = 1, **fields: object) -> bytes:
        """A grant that answers a fresh challenge; ``fields`` are other than usual."""
        mode = fields.pop("mode", Mode.OPEN)
        usual: dict[str, object] = {}
        if mode is Mode.OPEN:
            key = self.sentinel.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            challenge = fields.pop("challenge", None) or self.gate.challenge("p")
            usual = {"life_ms": 60_000, "challenge": challenge, "pulse_key": key, "pulse_life_ms": 2_000}
        host = fields.pop("host", HOST)
        made = Grant(
            fields.pop("gate", "g"), fields.pop("port", "p"), host, epoch, sequence, mode, **{**usual, **fields}
        )
        return sign_grant(self.controller, made)

    def beat(self, **fields: object) -> None:
        """One pulse, as the sentinel makes it, ``fields`` other than usual."""
        usual = {"host": HOST, "epoch": 1, "sequence": self.pulses + 1, "nonce": self.nonce}
        self.nonce = self.gate.pulse("p", sign_pulse(self.sentinel, Pulse(**{**usual, **fields})))
        self.pulses += 1

    def admit(self) -> None:
        self.gate.apply("p", self.grant())
        self.beat()

    @property
    def passes(self) -> bool:
        """Whether a frame of either direction passes: the sink."""
        ways = {self.driver.offer("p", from_host=way) for way in (True, False)}
        assert len(ways) == 1
        return ways.pop()
