"""An address, and the device behind it, goes to another tenant's endpoint at once: it inherits nothing (invariant 13).

The connection is real and goes on sending; what its other end still receives is the sink. That an address is held back
until every other host gave its last owner up is the controller's: tests/unit/controller/test_channel.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.slice import HostSlice
from tests.netns.pair import A, B, Pair
from tests.netns.test_life import Stream, comes_back

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
NEXT_OWNER = 302


def handed_over(pair: Pair, revision: int, *, to_another_tenant: bool) -> HostSlice:
    """`a`'s device and addresses are `other/c`'s, with every right that `a` had; or still `a`'s."""
    before = pair.slice(revision)
    if not to_another_tenant:
        return before
    addresses = {key: NEXT_OWNER if identity == A else identity for key, identity in before.addresses.items()}
    was = before.endpoints["acme/a"]
    owner = replace(was, id="other/c", tenant="other", addresses=dict.fromkeys(was.addresses, NEXT_OWNER))
    tables = {
        (NEXT_OWNER, "egress"): {B: 1, NEXT_OWNER: 2},
        (NEXT_OWNER, "ingress"): {B: 2, NEXT_OWNER: 2},
        (B, "egress"): {NEXT_OWNER: 2, B: 2},
        (B, "ingress"): {NEXT_OWNER: 1, B: 2},
    }
    endpoints = {"other/c": owner, "acme/b": before.endpoints["acme/b"]}
    return replace(before, endpoints=endpoints, addresses=addresses, tables=tables)


def after_handover(pair: Pair, pins: Path, *, to_another_tenant: bool) -> tuple[bool, KernelEnforcer]:
    """Whether the connection of the first owner still carries after the next revision."""
    enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(pair.slice(1))
    stream = Stream(pair)
    try:
        assert stream.carries()
        enforcer.enforce(handed_over(pair, 2, to_another_tenant=to_another_tenant))
        return stream.carries(), enforcer
    finally:
        stream.close()


def test_the_next_owner_has_none_of_the_lasts_connections(pair: Pair, pins: Path) -> None:
    carried, enforcer = after_handover(pair, pins, to_another_tenant=True)
    assert not carried
    # Not because the port is closed: what the next owner opens itself passes.
    assert comes_back(pair, 80)
    counted = enforcer.counters().by_reason
    assert counted.get(("other/c", "no-flow"), 0) > 0


def test_the_same_owner_keeps_them(pair: Pair, pins: Path) -> None:
    """The negative control: it is the change of owner that ends the connection, not the revision."""
    assert after_handover(pair, pins, to_another_tenant=False)[0]
