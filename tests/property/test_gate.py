"""A gate under any order of messages, old, forged and cut, and any passing of time; the driver's frames are the judge."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hostward.errors import LeaseError
from hostward.gate.cbor import Tagged, decode, encode
from hostward.gate.messages import Mode, read_grant, read_pulse
from tests.unit.gate.lab import MS, Lab

KEY = Ed25519PrivateKey.generate().public_key()
VALUES = st.recursive(
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-300, 300), inner, max_size=4),
    max_leaves=6,
)


@given(VALUES)
@settings(deadline=None)
def test_every_value_has_one_encoding(value: object) -> None:
    with contextlib.suppress(LeaseError):  # nested too deep
        assert decode(encode(value)) == value
        assert decode(encode(Tagged(18, value))) == Tagged(18, value)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_whole_or_refused(data: bytes) -> None:
    for read in (decode, lambda data: read_grant(KEY, data), lambda data: read_pulse(KEY, data)):
        try:
            value = read(data)
        except LeaseError:
            continue
        assert encode(value) == data


class Leases(RuleBasedStateMachine):
    """Beside the gate, what honest arithmetic says: until when each half may hold at the very most."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.sent: list[bytes] = []
        self.sequence = 0
        self.grant_until = self.pulse_until = 0

    @rule(life_ms=st.integers(1, 5_000))
    def grant(self, life_ms: int) -> None:
        self.sequence += 1
        message = self.lab.grant(self.sequence, life_ms=life_ms)
        self.sent.append(message)
        self.lab.gate.apply("p", message)
        self.grant_until = self.lab.now_ns + life_ms * MS
        self.lab.nonce = self.lab.gate.nonce("p")

    @rule()
    def keep_one_back(self) -> None:
        self.sequence += 1
        self.sent.append(self.lab.grant(self.sequence))
        self.lab.gate.challenge("p")

    @rule()
    def take_back(self) -> None:
        self.sequence += 1
        self.lab.gate.apply("p", self.lab.grant(self.sequence, mode=Mode.QUARANTINE))
        self.grant_until = 0

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.sent:
            with contextlib.suppress(LeaseError):
                self.lab.gate.apply("p", data.draw(st.sampled_from(self.sent)))
                raise AssertionError("an old grant was taken")

    @rule()
    def beat(self) -> None:
        with contextlib.suppress(LeaseError):
            self.lab.beat()
            self.pulse_until = self.lab.now_ns + 2_000 * MS

    @rule()
    def restart(self) -> None:
        self.lab.restart()
        self.grant_until = self.pulse_until = 0
        self.sent = self.sent[-8:]

    @rule()
    def unplug(self) -> None:
        self.lab.gate.link_down("p")
        self.grant_until = self.pulse_until = 0

    @rule(ms=st.integers(1, 3_000))
    def wait(self, ms: int) -> None:
        self.lab.pass_ms(ms)

    @invariant()
    def open_only_while_both_hold(self) -> None:
        both = min(self.grant_until, self.pulse_until) > self.lab.now_ns
        assert self.lab.passes == both
        assert self.lab.gate.state("p").open == both


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
