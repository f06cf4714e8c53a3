"""The release before this one, its own compiled datapath, replaced under its connections."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import open_enforcer
from hostward.model.endpoint import EndpointState
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.abi6 import VERSION, OlderDatapath
from tests.netns.conftest import BPFFS
from tests.netns.pair import CLASSES, A, Pair, run
from tests.netns.test_life import arrives, comes_back
from tests.netns.test_upgrade import CAPACITY, Bulk, Connections, Spray
from tests.netns.wire import arriving, between


@pytest.fixture
def staging() -> Iterator[Path]:
    path = BPFFS / f"hwtest-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def older(pair: Pair, pins: Path, staging: Path, tmp_path: Path) -> OlderDatapath:
    """`a` behind the datapath of ABI 6; `b` behind nothing."""
    made = OlderDatapath(tmp_path, pins, staging, CAPACITY)
    made.start(slice_of_a(pair, 1), pair.device("a"))
    run("ip", "link", "set", pair.device("b"), "up")
    return made


def slice_of_a(pair: Pair, revision: int) -> HostSlice:
    """`a` may open port 80 of TCP, UDP and SCTP at `b`."""
    both = pair.slice(revision)
    keys = {key: table for key, table in both.tables.items() if key[0] == A}
    classes = replace(CLASSES, sctp=((0, 0), (80, 1), (81, 0)))
    return replace(both, endpoints={"acme/a": both.endpoints["acme/a"]}, tables=keys, class_sets={1: classes})


@pytest.mark.netns
def test_connections_of_the_release_before_go_on(pair: Pair, pins: Path, older: OlderDatapath) -> None:
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)  # it is the older datapath that decides
    idle, busy = Connections(pair, 100), Connections(pair, 2)
    bulk, spray = Bulk(busy), Spray(pair)
    try:
        idle.carry()
        assert len(older.flows()) >= 102
        held = open_enforcer(pins, capacity=CAPACITY, hook="clsact")
        statuses = held.enforce(slice_of_a(pair, 2))
        assert statuses["acme/a"].state is EndpointState.ENFORCED
        idle.carry()
    finally:
        bulk.finish()
        denied = spray.finish()
        idle.close()
        busy.close()
    assert bulk.is_exact(), bulk.errors
    assert spray.sent > 0
    assert denied == 0
    assert held.statuses()["acme/a"].flows >= 102
    assert held.counters().by_reason["acme/a", "policy"] > 0
    assert not (pins / f"maps_{VERSION}").exists()
    assert not held.repair()


# What each end of an association chose; packets to it carry it.
TAG_OF_A, TAG_OF_B, GUESSED = 0xAAAA0001, 0xBBBB0002, 0xCCCC0003
DATA, INIT, INIT_ACK, ABORT, COOKIE_ECHO, COOKIE_ACK = 0, 1, 2, 6, 10, 11


class Association:
    """SCTP between `a`'s port 4000 and `b`'s port 80, by hand: no kernel of ours speaks it."""

    def __init__(self, pair: Pair, family: int) -> None:
        self.pair, self.family = pair, family

    def passes(self, sender: str, kind: int, tag: int, body: bytes = b"") -> bool:
        """Whether a packet of one chunk reaches the other end's device."""
        other = "b" if sender == "a" else "a"
        ports = (4_000, 80) if sender == "a" else (80, 4_000)
        packet = f.sctp(*ports, f.sctp_chunk(kind, body), tag=tag)
        framed = {"it": between(self.pair, sender, other, f.SCTP, packet, self.family)}
        return bool(arriving(self.pair, framed, sender=sender, at=other))

    def open(self) -> None:
        assert self.passes("a", INIT, 0, f.sctp_init_body(TAG_OF_A))
        assert self.passes("b", INIT_ACK, TAG_OF_A, f.sctp_init_body(TAG_OF_B))
        assert self.passes("a", COOKIE_ECHO, TAG_OF_B, bytes(8))
        assert self.passes("b", COOKIE_ACK, TAG_OF_A)


@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
def test_an_association_of_the_release_before_goes_on_and_shows_its_tags(
    pair: Pair, pins: Path, older: OlderDatapath, family: int
) -> None:
    """That release kept none: it let any packet of the two ports through."""
    assert comes_back(pair, 80, family)
    association = Association(pair, family)
    association.open()
    assert association.passes("b", DATA, GUESSED, bytes(16)), "the control: no tag is asked for"
    held = open_enforcer(pins, capacity=CAPACITY, hook="clsact")
    held.enforce(slice_of_a(pair, 2))
    assert not association.passes("b", ABORT, GUESSED), "no end of it is learnt from"
    for sender, tag in (("a", TAG_OF_B), ("b", TAG_OF_A)):
        assert association.passes(sender, DATA, tag, bytes(16))
        assert not association.passes(sender, DATA, GUESSED, bytes(16))
        assert not association.passes(sender, ABORT, GUESSED)
        assert association.passes(sender, DATA, tag, bytes(12))
    assert held.counters().by_reason["acme/a", "sctp-tag"] == 5
    assert association.passes("b", ABORT, TAG_OF_A)
    assert [flow.state for flow in held.flows("acme/a") if flow.protocol == f.SCTP] == ["closed"]


@pytest.mark.netns
def test_an_association_whose_handshake_the_upgrade_meets_opens_all_the_same(
    pair: Pair, pins: Path, older: OlderDatapath
) -> None:
    assert comes_back(pair, 80)
    association = Association(pair, 4)
    assert association.passes("a", INIT, 0, f.sctp_init_body(TAG_OF_A))
    open_enforcer(pins, capacity=CAPACITY, hook="clsact").enforce(slice_of_a(pair, 2))
    assert not association.passes("b", INIT_ACK, TAG_OF_A, f.sctp_init_body(TAG_OF_B)), "its INIT was not seen"
    association.open()
    assert association.passes("a", DATA, TAG_OF_B, bytes(16))
