"""When there is to be a pulse, and why not. Times are seconds on a clock that moves when a test says so."""

from __future__ import annotations

from hostward.datapath.attached import Attached
from hostward.sentinel.watch import Watch

A, B, C = (Attached({"acme/a": bytes((n,)) * 32}, {"acme/a": b"p" * 32, "tables": b"t" * 32}) for n in range(3))
HOST = b"h" * 32


def attested(now_s: float = 0.0) -> Watch:
    watch = Watch(30.0, 10.0)
    watch.attested(HOST, 4, A, now_s)
    return watch


def test_only_what_was_attested_has_a_pulse() -> None:
    watch = Watch(30.0, 10.0)
    assert watch.objection(A, 0.0) == "nothing has been attested yet"
    watch.alive(0.0)
    assert watch.objection(A, 0.0)
    watch = attested()
    assert watch.objection(A, 1.0) == ""
    assert (watch.host, watch.epoch) == (HOST, 4)
    assert watch.objection(B, 1.0) == "not what was attested: program of acme/a"
    other = Attached({}, dict.fromkeys(("a/1", "a/2", "a/3"), b"x" * 32))
    assert "and 3 more" in watch.objection(other, 1.0)
    assert watch.objection(A, 1.0) == "", "and it is taken again when it is back"


def test_the_agent_may_be_away_for_its_grace() -> None:
    watch = attested()
    assert watch.objection(A, 30.0) == ""
    assert "away for more than 30 s" in watch.objection(A, 30.1)
    watch.alive(31.0)
    assert watch.objection(A, 60.0) == ""


def test_a_change_is_taken_for_a_while_and_then_has_to_be_attested() -> None:
    watch = attested()
    watch.pending(B, 1.0)
    assert watch.objection(A, 2.0) == watch.objection(B, 2.0) == ""
    assert watch.objection(C, 2.0)
    assert watch.objection(B, 10.9) == ""
    assert watch.objection(B, 11.0) == "a change was not attested within 10 s"
    watch.attested(HOST, 4, B, 12.0)
    assert watch.objection(B, 12.0) == ""
    assert watch.objection(A, 12.0), "what was before is no more"


def test_announcing_again_gains_no_time() -> None:
    watch = attested()
    watch.pending(B, 1.0)
    watch.pending(C, 9.0)
    watch.pending(B, 10.0)
    assert watch.objection(C, 10.9) == ""
    assert watch.objection(C, 11.5)
    watch.pending(C, 12.0)
    assert watch.objection(C, 12.0)


def test_a_change_behind_the_one_that_was_attested_has_its_own_time() -> None:
    watch = attested()
    watch.pending(B, 1.0)
    watch.pending(C, 2.0)
    watch.attested(HOST, 4, B, 9.0)
    assert watch.objection(C, 18.0) == ""
    assert watch.objection(C, 19.0)
    watch.attested(HOST, 4, C, 20.0)
    assert watch.objection(C, 20.0) == ""


def test_a_change_that_was_given_up_is_forgotten() -> None:
    watch = attested()
    watch.pending(B, 1.0)
    watch.attested(HOST, 4, A, 20.0)
    assert watch.objection(B, 20.0)
    watch.pending(B, 21.0)
    assert watch.objection(B, 22.0) == ""


def test_while_the_agent_is_at_a_change_nothing_surprises_within_the_time_for_it() -> None:
    watch = attested()
    watch.changing(1.0)
    assert watch.objection(B, 2.0) == watch.objection(C, 10.9) == ""
    assert watch.objection(C, 11.0) == "a change was not attested within 10 s"
    watch.changing(12.0)
    assert watch.objection(C, 12.0), "announcing again gains no time"
    watch.attested(HOST, 4, B, 13.0)
    assert watch.objection(C, 13.0) == "", "what is proven meanwhile is a new beginning"


def test_what_a_change_became_is_named_and_then_has_to_be_attested() -> None:
    watch = attested()
    watch.changing(1.0)
    watch.pending(B, 3.0)
    assert watch.objection(C, 3.0)
    assert watch.objection(B, 10.9) == ""
    assert watch.objection(B, 11.0), "the time began with the change"


def test_a_change_that_nobody_finishes_is_no_excuse() -> None:
    watch = attested()
    watch.changing(1.0)
    watch.left()
    assert watch.objection(B, 2.0)
    assert watch.objection(A, 2.0) == ""
    watch.changing(12.0)
    assert watch.objection(B, 12.0), "and coming back to it gains no time"
