"""One port's lease: what is accepted, what it makes of the deadline, and why the port is as it is. No clock, no I/O.

Every message moves numbers that only grow: the host's boot (*epoch*), the grants of a boot, the pulses of a grant's key.
What is not newer than what was accepted is refused and changes nothing (invariant 12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hostward.errors import LeaseError
from hostward.gate.messages import CHALLENGE_BYTES, Grant, Mode, Pulse

_MS = 1_000_000
# How long a challenge is good for: a grant that took longer was held back by somebody.
CHALLENGE_LIFE_NS = 10_000 * _MS


@dataclass(frozen=True, slots=True)
class PortState:
    """What a gate tells of a port. The times that are left are 0 when there is none."""

    port: str
    open: bool
    mode: Mode
    why: str
    host: bytes
    epoch: int
    sequence: int
    grant_left_ms: int
    pulse_left_ms: int


class PortLease:
    """The lease of one port. ``draw`` gives fresh random bytes; ``now_ns`` is the gate's own monotonic clock everywhere."""

    def __init__(self, gate: str, port: str, draw: Callable[[int], bytes]) -> None:
        self._gate, self._port, self._draw = gate, port, draw
        self._grant: Grant | None = None
        self._newest = (0, 0)  # epoch and sequence of the last grant that was accepted
        self._pulses = 0
        self._grant_until_ns = self._pulse_until_ns = 0
        self._challenge, self._challenge_until_ns = b"", 0
        self._nonce, self._nonce_before = draw(CHALLENGE_BYTES), b""
        self._why = "no grant since the gate started"

    def challenge(self, now_ns: int) -> bytes:
        """A new challenge for the next grant; the one before it is void."""
        self._challenge, self._challenge_until_ns = self._draw(CHALLENGE_BYTES), now_ns + CHALLENGE_LIFE_NS
        return self._challenge

    @property
    def nonce(self) -> bytes:
        """What the next pulse has to carry."""
        return self._nonce

    @property
    def deadline_ns(self) -> int:
        """Until when the port may be open: while both halves of the lease hold. 0: it is closed."""
        return min(self._grant_until_ns, self._pulse_until_ns) if self._grant is not None else 0

    @property
    def mode(self) -> Mode:
        """What the last grant made of the port."""
        return self._grant.mode if self._grant is not None else Mode.QUARANTINE

    def apply(self, grant: Grant, now_ns: int) -> None:
        """Take a grant whose signature was good. Raises LeaseError with what is wrong with it, changing nothing."""
        if (grant.gate, grant.port) != (self._gate, self._port):
            raise LeaseError(f"the grant is for port {grant.port} of gate {grant.gate}", subject=self._port)
        if (grant.epoch, grant.sequence) <= self._newest:
            raise LeaseError(
                f"grant {grant.sequence} of boot {grant.epoch}, and {self._newest[1]} of {self._newest[0]} was here",
                subject=self._port,
            )
        if self.mode is Mode.CUT and grant.mode is Mode.OPEN and grant.epoch <= self._newest[0]:
            raise LeaseError(
                "the host was cut off during this boot", subject=self._port, hint="reboot it, or release it at the gate"
            )
        if grant.mode is Mode.OPEN:
            self._spend_challenge(grant.challenge, now_ns)
        keeps_pulse = self._grant is not None and self._grant.host == grant.host and self._newest[0] == grant.epoch
        if self._grant is None or self._grant.pulse_key != grant.pulse_key or not keeps_pulse:
            self._pulses = 0
        if not keeps_pulse:
            self._pulse_until_ns = 0
        self._grant, self._newest = grant, (grant.epoch, grant.sequence)
        self._grant_until_ns = now_ns + grant.life_ms * _MS if grant.mode is Mode.OPEN else 0
        self._why = "" if grant.mode is Mode.OPEN else "the controller took the grant back"

    def pulse_key(self) -> Ed25519PublicKey:
        """By which a pulse has to be signed. Raises LeaseError while there is none."""
        if self._grant is None or self._grant.mode is not Mode.OPEN:
            raise LeaseError("a pulse, and no grant that names its key", subject=self._port)
        return Ed25519PublicKey.from_public_bytes(self._grant.pulse_key)

    def beat(self, pulse: Pulse, now_ns: int) -> bytes:
        """Take a pulse whose signature was good; returns the next one's nonce. Raises LeaseError, changing nothing.

        The nonce before the last is good too: the answer that carried the last one may have been lost.
        """
        grant = self._grant
        if grant is None or (pulse.host, pulse.epoch) != (grant.host, grant.epoch):
            raise LeaseError("a pulse of another host or of another boot", subject=self._port)
        if pulse.sequence <= self._pulses:
            raise LeaseError(f"pulse {pulse.sequence}, and {self._pulses} was here", subject=self._port)
        if pulse.nonce not in (self._nonce, self._nonce_before):
            raise LeaseError("a pulse that was made before the gate's last answers", subject=self._port)
        self._pulses = pulse.sequence
        self._pulse_until_ns = now_ns + grant.pulse_life_ms * _MS
        self._nonce_before, self._nonce = self._nonce, self._draw(CHALLENGE_BYTES)
        return self._nonce

    def drop(self, why: str) -> None:
        """Forget the lease: the link went down, or the driver was lost. The numbers stay, so nothing old opens it again."""
        if self.mode is not Mode.CUT:
            self._grant = None
        self._grant_until_ns = self._pulse_until_ns = 0
        self._challenge, self._why = b"", why

    def release(self) -> None:
        """An operator at the gate undoes a cut; the port waits for a grant like any other."""
        if self._grant is not None:
            self._grant = replace(self._grant, mode=Mode.QUARANTINE)
        self.drop("released by an operator")

    def state(self, now_ns: int) -> PortState:
        """What it is now, and why."""
        grant = self._grant
        grant_left, pulse_left = (max(0, until - now_ns) for until in (self._grant_until_ns, self._pulse_until_ns))
        why = self._why
        if self.mode is Mode.OPEN and not grant_left:
            why = "the grant ended: the controller renewed it no more"
        elif self.mode is Mode.OPEN and not pulse_left:
            why = "the pulse ended: the sentinel is silent" if self._pulses else "no pulse yet"
        return PortState(
            self._port,
            self.deadline_ns > now_ns,
            self.mode,
            why,
            grant.host if grant is not None else b"",
            *self._newest,
            -(-grant_left // _MS),
            -(-pulse_left // _MS),
        )

    def _spend_challenge(self, challenge: bytes, now_ns: int) -> None:
        if not self._challenge or challenge != self._challenge:
            raise LeaseError("the grant does not answer the gate's last challenge", subject=self._port)
        if now_ns > self._challenge_until_ns:
            raise LeaseError("the grant answers a challenge that has expired", subject=self._port)
        self._challenge = b""
