"""When a port is open, and everything that must not open it. Frames are counted at the driver, beyond the gate."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.gate.lab import HOST, OTHER, Lab

from hostward.errors import LeaseError, NotFoundError
from hostward.gate.gate import Enforcement
from hostward.gate.messages import Mode, Pulse, sign_pulse


def refused(lab: Lab, message: bytes, why: str) -> None:
    before = lab.gate.state("p")
    with pytest.raises(LeaseError, match=why):
        lab.gate.apply("p", message)
    assert lab.gate.state("p") == before


def test_a_port_opens_by_grant_and_pulse_together_and_not_by_either_alone() -> None:
    lab = Lab()
    assert not lab.passes
    with pytest.raises(LeaseError, match="no grant that names its key"):
        lab.beat()
    lab.gate.apply("p", lab.grant())
    assert not lab.passes
    assert lab.gate.state("p").why == "no pulse yet"
    lab.beat()
    assert lab.passes
    assert [event.state.open for event in lab.gate.take_events()] == [True]


def test_a_silent_sentinel_closes_the_port_at_the_pulses_deadline_and_comes_back() -> None:
    lab = Lab()
    lab.admit()
    lab.pass_ms(1_999)
    assert lab.passes
    lab.pass_ms(1)
    assert not lab.passes
    assert lab.gate.state("p").why == "the pulse ended: the sentinel is silent"
    lab.beat()
    assert lab.passes
    assert [event.state.open for event in lab.gate.take_events()] == [True, False, True]


def test_without_the_controller_the_port_is_open_for_the_grants_life_and_no_longer() -> None:
    lab = Lab()
    lab.admit()
    for _ in range(59):
        lab.pass_ms(1_000)
        lab.beat()
    assert lab.passes
    lab.pass_ms(1_000)
    lab.beat()
    assert not lab.passes
    assert lab.gate.state("p").why == "the grant ended: the controller renewed it no more"


def test_a_renewal_breaks_nothing_and_a_new_pulse_key_takes_over() -> None:
    lab = Lab()
    lab.admit()
    for sequence in range(2, 12):
        lab.pass_ms(1_500)
        lab.gate.apply("p", lab.grant(sequence))
        assert lab.passes
        lab.beat()
    old, lab.sentinel = lab.sentinel, Ed25519PrivateKey.generate()
    lab.gate.apply("p", lab.grant(12))
    assert lab.passes
    with pytest.raises(LeaseError, match="signature"):
        lab.gate.pulse("p", sign_pulse(old, Pulse(HOST, 1, lab.pulses + 1, lab.nonce)))
    lab.pulses = 0
    lab.beat()
    assert lab.passes


def test_bad_evidence_cuts_at_once_by_push() -> None:
    lab = Lab()
    lab.admit()
    lab.gate.apply("p", lab.grant(2, mode=Mode.QUARANTINE))
    assert not lab.passes
    assert lab.driver.offer("p", from_host=True, of_profile=True)
    lab.gate.apply("p", lab.grant(3))
    lab.beat()
    assert lab.passes


def test_a_cut_holds_until_a_later_boot_or_an_operator() -> None:
    lab = Lab()
    lab.admit()
    lab.gate.apply("p", lab.grant(2, mode=Mode.CUT))
    assert not lab.driver.offer("p", from_host=True, of_profile=True)
    refused(lab, lab.grant(3), "cut off during this boot")
    lab.gate.link_down("p")
    refused(lab, lab.grant(3), "cut off during this boot")
    lab.gate.apply("p", lab.grant(1, epoch=2))
    lab.beat(epoch=2, sequence=1)
    assert lab.passes
    lab.gate.apply("p", lab.grant(2, epoch=2, mode=Mode.CUT))
    lab.gate.release("p")
    assert not lab.passes
    assert lab.driver.offer("p", from_host=True, of_profile=True)
    lab.gate.apply("p", lab.grant(3, epoch=2))
    lab.beat(epoch=2, sequence=1)
    assert lab.passes


def test_old_grants_are_refused() -> None:
    lab = Lab()
    first = lab.grant()
    lab.gate.apply("p", first)
    lab.beat()
    refused(lab, first, "grant 1 of boot 1, and 1 of 1 was here")
    held_back = lab.grant(2)
    lab.gate.apply("p", lab.grant(2))
    refused(lab, held_back, "was here")
    refused(lab, lab.grant(3, challenge=b"x" * 16), "last challenge")
    late = lab.grant(3)
    lab.pass_ms(10_001)
    refused(lab, late, "challenge that has expired")
    lab.gate.apply("p", lab.grant(1, epoch=2))
    refused(lab, lab.grant(9, epoch=1), "was here")
    # What takes away needs no challenge, but has to be newer all the same.
    refused(lab, lab.grant(1, epoch=1, mode=Mode.CUT), "was here")


def test_a_gate_that_restarts_is_closed_and_takes_no_grant_of_before() -> None:
    lab = Lab()
    lab.admit()
    kept = lab.grant(2)
    lab.restart()
    assert not lab.passes
    refused(lab, kept, "last challenge")
    lab.gate.apply("p", lab.grant(2))
    lab.beat()
    assert lab.passes


def test_a_pulse_that_was_made_before_is_refused() -> None:
    lab = Lab()
    lab.admit()
    stored = [Pulse(HOST, 1, number, lab.nonce) for number in range(2, 6)]
    lab.beat()
    lab.beat()
    for pulse in stored:
        with pytest.raises(LeaseError, match=r"was here|gate's last answers"):
            lab.gate.pulse("p", sign_pulse(lab.sentinel, pulse))
    lab.pass_ms(2_000)
    assert not lab.passes
    for wrong in ({"host": OTHER}, {"epoch": 2}):
        with pytest.raises(LeaseError, match="another host or of another boot"):
            lab.beat(**wrong)
    assert not lab.passes


def test_the_answer_to_one_pulse_may_be_lost() -> None:
    lab = Lab()
    lab.admit()
    nonce, lost = lab.nonce, lab.pulses
    lab.beat()
    lab.nonce, lab.pulses = nonce, lost + 1
    lab.pass_ms(1_000)
    lab.beat()
    lab.pass_ms(1_500)
    assert lab.passes


@pytest.mark.parametrize("wrong", [{"gate": "x"}, {"port": "q"}])
def test_a_grant_for_somewhere_else_is_refused(wrong: dict[str, str]) -> None:
    lab = Lab()
    refused(lab, lab.grant(**wrong), "for port")


def test_a_grant_of_an_impostor_is_refused() -> None:
    lab = Lab()
    honest, lab.controller = lab.controller, Ed25519PrivateKey.generate()
    refused(lab, lab.grant(), "signature is another's")
    lab.controller = honest
    # A pulse is no grant, whoever signed it.
    refused(lab, sign_pulse(lab.controller, Pulse(HOST, 1, 1, lab.nonce)), "not signed as application/hostward-grant")
    with pytest.raises(NotFoundError, match="no such port"):
        lab.gate.apply("q", lab.grant())


def test_whoever_is_plugged_in_next_has_no_lease() -> None:
    lab = Lab()
    lab.admit()
    lab.gate.link_down("p")
    assert not lab.passes
    with pytest.raises(LeaseError):
        lab.beat()
    lab.gate.apply("p", lab.grant(2, host=OTHER))
    assert not lab.passes


def test_audit_passes_everything_and_tells_what_it_would_have_closed() -> None:
    lab = Lab(Enforcement.AUDIT)
    assert lab.passes
    lab.admit()
    lab.pass_ms(2_001)
    assert lab.passes
    told = [(event.state.open, event.would) for event in lab.gate.take_events()]
    assert told == [(True, True), (False, True)]
    # The control: enforced, the same ends.
    enforced = Lab()
    enforced.admit()
    enforced.pass_ms(2_001)
    assert not enforced.passes
