"""Rules with `keep`, as the datapath knows them: what such a rule opened goes on after a revocation that spares it.

The slices are written by hand: which pairs a revoked rule spares is the compiler's to know.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.slice import Decision, HostSlice, Row
from tests.netns.hooks import on_every_hook
from tests.netns.pair import ALLOW, DENY, PING, Pair
from tests.netns.test_life import Stream, arrives

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
KEEP, SPARE, OTHER_SPARE = 7, 8, 9

pytestmark = pytest.mark.netns


def slice_of(pair: Pair, revision: int, cell: int, *, peer_of_a: int = 300) -> HostSlice:
    """What is decided about `a` opening port 80 at `b`; as from the compiler, every decision is some cell's."""
    base = pair.slice(revision, peer_of_a=peer_of_a)
    decisions = {
        **base.decisions,
        KEEP: Decision(KEEP, "allow", ("acme/web",), keep=True),
        SPARE: Decision(SPARE, "deny", ("acme/default-deny",), keeps=("acme/web",)),
        OTHER_SPARE: Decision(OTHER_SPARE, "deny", ("acme/default-deny",), log=True, keeps=("acme/web",)),
    }
    used = {DENY, PING, cell}
    return replace(
        base,
        rows={**base.rows, 1: Row(1, 1, (DENY, cell, PING))},
        decisions={number: decision for number, decision in decisions.items() if number in used},
    )


@on_every_hook
def test_a_kept_stream_goes_on_and_nothing_new_opens(pair: Pair, pins: Path, hook: str) -> None:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, KEEP))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held.enforce(slice_of(pair, 2, SPARE))
        held.settle()
        assert stream.carries()
        assert not arrives(pair, 80)
        # Its old decision's place is another's now: the flow refers to the denial that spares it.
        before = held.counters().by_rule[SPARE][0]
        assert stream.carries()
        assert held.counters().by_rule[SPARE][0] > before
        # Again and again, whatever else changes about the denial.
        held.enforce(slice_of(pair, 3, OTHER_SPARE))
        assert stream.carries()
        held.enforce(slice_of(pair, 4, DENY))
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.parametrize(("opened_under", "revoked_to"), [(ALLOW, SPARE), (KEEP, DENY), (ALLOW, DENY)])
def test_without_keep_on_both_sides_of_the_change_a_stream_ends(
    pair: Pair, pins: Path, opened_under: int, revoked_to: int
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 1, opened_under))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held.enforce(slice_of(pair, 2, revoked_to))
        assert not stream.carries()
    finally:
        stream.close()


def test_a_flow_renewed_under_a_rule_without_keep_is_kept_no_longer(pair: Pair, pins: Path) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 1, KEEP))
    stream = Stream(pair)
    try:
        held.enforce(slice_of(pair, 2, ALLOW))
        assert stream.carries()
        held.enforce(slice_of(pair, 3, SPARE))
        assert not stream.carries()
    finally:
        stream.close()


def test_a_relabelled_peer_loses_a_kept_stream(pair: Pair, pins: Path) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 1, KEEP))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held.enforce(slice_of(pair, 2, SPARE, peer_of_a=302))
        assert not stream.carries()
    finally:
        stream.close()


def test_a_kept_stream_comes_back_under_a_rule_that_allows_it_again(pair: Pair, pins: Path) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 1, KEEP))
    stream = Stream(pair)
    try:
        for revision, cell in enumerate((SPARE, KEEP, SPARE), 2):
            held.enforce(slice_of(pair, revision, cell))
            assert stream.carries()
    finally:
        stream.close()
