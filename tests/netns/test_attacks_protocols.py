"""SCTP, ESP and GRE go out, and then something unsolicited comes back: same addresses and same ports are no reply.

Real frames through the ports; what arrives is counted at the workload's own device. The negative control is the same
frames with no datapath there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.pair import ALLOW, CLASSES, DENY, Pair
from tests.netns.wire import arriving, between

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
SPI, BACK = 0x1234_5678, 0x0BAD_CAFE
OWN_TAG, PEER_TAG = 0xAAAA_0001, 0xBBBB_0002


def slice_of(pair: Pair, revision: int, *, cell: int = ALLOW) -> HostSlice:
    """`a` may open SCTP port 80, ESP and GRE to `b`, and `b` may open nothing."""
    classes = replace(CLASSES, sctp=((0, 0), (80, 1), (81, 0)), proto=((0, 0), (47, 1), (48, 0), (50, 1), (51, 0)))
    return replace(pair.slice(revision, cell=cell), class_sets={1: classes})


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def outward(pair: Pair, family: int) -> dict[str, bytes]:
    """What `a` sends, and may."""
    return {
        "esp": between(pair, "a", "b", f.ESP, f.esp(SPI), family),
        "gre": between(pair, "a", "b", f.GRE, f.gre(bytes(24)), family),
        "sctp": between(pair, "a", "b", f.SCTP, f.sctp(4000, 80, _init(OWN_TAG)), family),
    }


def unsolicited(pair: Pair, family: int) -> dict[str, bytes]:
    """What comes to `a` as from `b`, from somebody who saw addresses and ports, and of ESP even the SPI."""

    def from_b(protocol: int, payload: bytes) -> bytes:
        return between(pair, "b", "a", protocol, payload, family)

    def sctp(kind: int, tag: int, body: bytes = b"", *, flags: int = 0) -> bytes:
        return from_b(f.SCTP, f.sctp(80, 4000, f.sctp_chunk(kind, body, flags=flags), tag=tag))

    return {
        "esp, the same SPI": from_b(f.ESP, f.esp(SPI)),
        "esp, its halves turned": from_b(f.ESP, f.esp(SPI >> 16 | (SPI & 0xFFFF) << 16)),
        "esp, another SPI": from_b(f.ESP, f.esp(BACK)),
        "gre": from_b(f.GRE, f.gre(bytes(24))),
        "sctp data, tag 0": sctp(0, 0, bytes(16)),
        "sctp data, guessed": sctp(0, 1, bytes(16)),
        "sctp init ack, guessed": sctp(2, 1, f.sctp_init_body(9)),
        "sctp abort, guessed": sctp(6, 1),
        "sctp abort, reflected": sctp(6, 1, flags=1),
        "sctp init from another port": from_b(f.SCTP, f.sctp(81, 4000)),
        "sctp init and data": from_b(f.SCTP, f.sctp(80, 4000, _init(9) + f.sctp_chunk(0, bytes(16)))),
    }


def _init(tag: int) -> bytes:
    return f.sctp_chunk(1, f.sctp_init_body(tag))


def enforced(pair: Pair, pins: Path) -> KernelEnforcer:
    enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(slice_of(pair, 1))
    return enforcer


def test_what_went_out_lets_nothing_unsolicited_in(pair: Pair, pins: Path, family: int) -> None:
    enforcer = enforced(pair, pins)
    assert arriving(pair, outward(pair, family), sender="a", at="b") == {"esp", "gre", "sctp"}
    assert arriving(pair, unsolicited(pair, family), sender="network", at="a") == set()
    # The answer, with the tag that `a` chose, and what follows it.
    answers = {
        "init ack": between(
            pair, "b", "a", f.SCTP, f.sctp(80, 4000, f.sctp_chunk(2, f.sctp_init_body(PEER_TAG)), tag=OWN_TAG), family
        ),
        "cookie ack": between(pair, "b", "a", f.SCTP, f.sctp(80, 4000, f.sctp_chunk(11, b""), tag=OWN_TAG), family),
    }
    assert arriving(pair, answers, sender="network", at="a") == set(answers)
    assert arriving(pair, unsolicited(pair, family), sender="network", at="a") == set()
    reasons = {reason for (_, reason), packets in enforcer.counters().by_reason.items() if packets}
    assert {"policy", "sctp-tag", "l4-header"} <= reasons


def test_without_the_datapath_all_of_it_arrives(pair: Pair, family: int) -> None:
    """The negative control."""
    pair.set_up()
    assert arriving(pair, outward(pair, family), sender="a", at="b") == {"esp", "gre", "sctp"}
    frames = unsolicited(pair, family)
    assert arriving(pair, frames, sender="network", at="a") == set(frames)


def test_an_esp_flow_is_one_direction_of_one_spi(pair: Pair, pins: Path, family: int) -> None:
    enforcer = enforced(pair, pins)
    frames = {f"SPI {spi:#x}": between(pair, "a", "b", f.ESP, f.esp(spi), family) for spi in (SPI, BACK)}
    assert arriving(pair, frames, sender="a", at="b") == set(frames)
    shown = [flow for flow in enforcer.flows("acme/a") if flow.protocol == f.ESP]
    assert {flow.local[1] << 16 | flow.remote[1] for flow in shown} == {SPI, BACK}
    assert {flow.packets for flow in shown} == {(1, 0)}
    # An error about one of them passes, as for any flow: the path's MTU reaches the tunnel.
    protocol = f.ICMP if family == 4 else f.ICMPV6
    kind, code = (3, 1) if family == 4 else (1, 0)
    errors = {
        str(spi): between(
            pair,
            "b",
            "a",
            protocol,
            f.icmp(
                kind, code=code, payload=f.ip(pair.address("a", family), pair.address("b", family), f.ESP, f.esp(spi))
            ),
            family,
        )
        for spi in (SPI, 0x7777)
    }
    assert arriving(pair, errors, sender="network", at="a") == {str(SPI)}


def test_revoked_tunnels_and_associations_stop_at_once(pair: Pair, pins: Path, family: int) -> None:
    enforcer = enforced(pair, pins)
    assert arriving(pair, outward(pair, family), sender="a", at="b") == {"esp", "gre", "sctp"}
    enforcer.enforce(slice_of(pair, 2, cell=DENY))
    assert arriving(pair, outward(pair, family), sender="a", at="b") == set()
    assert enforcer.statuses()["acme/a"].flows == 0
