"""The door for pulses: what it reads, what it answers, and what a flood gets."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.gate.lab import HOST, Lab

from hostward.errors import LeaseError
from hostward.gate.live import LiveGate
from hostward.gate.messages import Pulse, sign_pulse
from hostward.gate.pulse_wire import DATAGRAM_MAX, MAGIC, Kind, Objection, ask, pack, refusal, unpack
from hostward.gate.pulses import PulseDoor

FROM = ("192.0.2.1", 4_000)


class Sent:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def sendto(self, data: bytes, _to: object) -> None:
        self.answers.append(data)


def door(lab: Lab) -> tuple[PulseDoor, Sent]:
    made, sent = PulseDoor(LiveGate(lab.gate)), Sent()
    made.connection_made(sent)  # type: ignore[arg-type]
    return made, sent


def test_a_nonce_a_pulse_and_the_next_nonce() -> None:
    lab = Lab()
    lab.gate.apply("p", lab.grant())
    made, sent = door(lab)
    made.datagram_received(ask("p"), FROM)
    first = unpack(sent.answers[-1])
    assert first.kind is Kind.NONCE
    pulse = pack(Kind.PULSE, "p", sign_pulse(lab.sentinel, Pulse(HOST, 1, 1, first.body)))
    made.datagram_received(pulse, FROM)
    assert unpack(sent.answers[-1]).body not in (b"", first.body)
    assert lab.passes
    # The same again is refused and changes nothing.
    lab.pass_ms(1_500)
    made.datagram_received(pulse, FROM)
    assert unpack(sent.answers[-1]).kind is Kind.REFUSED
    lab.pass_ms(600)
    assert not lab.passes
    assert made.refused == {Objection.LEASE: 1}


def test_no_answer_is_longer_than_its_question() -> None:
    lab = Lab()
    lab.gate.apply("p", lab.grant())
    forged = sign_pulse(Ed25519PrivateKey.generate(), Pulse(HOST, 1, 1, b"n" * 16))
    for question in (ask("p"), ask("q"), pack(Kind.PULSE, "p", forged), pack(Kind.PULSE, "p", b"x")):
        made, sent = door(lab)
        made.datagram_received(question, FROM)
        (answer,) = sent.answers
        assert len(answer) <= len(question)
        unpack(answer)


def test_what_is_no_question_is_counted_and_not_answered() -> None:
    lab = Lab()
    made, sent = door(lab)
    whole = ask("p")
    bad = [
        b"", MAGIC, whole[:-1], whole + b"x", b"X" + whole[1:], bytes(DATAGRAM_MAX + 1),
        pack(Kind.NONCE, "p", bytes(16)), pack(Kind.REFUSED, "p", b"\x03"),
        MAGIC + b"\x09\x01p" + bytes(16), MAGIC + b"\x01\x00" + bytes(16), MAGIC + b"\x01\x41" + bytes(80),
        MAGIC + b"\x01\x01\xff" + bytes(16),
    ]  # fmt: skip
    for data in bad:
        made.datagram_received(data, FROM)
    assert sent.answers == []
    assert made.refused == {Objection.MALFORMED: len(bad)}


def test_random_bytes_raise_nothing_else() -> None:
    chance = random.Random(7)
    for _ in range(5_000):
        data = bytearray(ask("p") if chance.random() < 0.7 else chance.randbytes(chance.randrange(120)))
        for _ in range(chance.randrange(3)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            unpack(bytes(data))
        except LeaseError:
            continue


def test_a_flood_from_one_address_is_cut_off_and_others_are_answered() -> None:
    lab = Lab()
    made, sent = door(lab)
    for number in range(500):
        made.datagram_received(ask("p"), ("192.0.2.1", number))
    assert len(sent.answers) < 100
    assert made.refused[Objection.TOO_MANY] > 400
    sent.answers.clear()
    made.datagram_received(ask("p"), ("192.0.2.2", 1))
    assert len(sent.answers) == 1
    # Refusals are bounded over all addresses.
    sent.answers.clear()
    for number in range(500):
        made.datagram_received(ask("q"), (f"198.51.100.{number % 250}", number))
    assert len(sent.answers) < 100


def test_a_refusal_without_room_has_no_words() -> None:
    question = pack(Kind.PULSE, "p", b"x")
    assert unpack(refusal(question, "p", Objection.LEASE, "long words")).body == bytes((Objection.LEASE.value,))
    with pytest.raises(LeaseError):
        ask("p" * 65)
