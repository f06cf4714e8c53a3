"""The tables of tests/netns/sctp through the loaded programs: both families, either end opening; and lengths that lie.

This kernel need not know SCTP: the packets are made by hand. Checksums are not looked at, see bpf/sctp.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.netns import frames as f
from tests.netns.probe import ENDPOINT, OWN, OWN6, PASSED, PEER, PEER6, Probe, denied, outward, packet
from tests.netns.sctp.notation import read_associations
from tests.netns.test_tcp_sequences import state_of

pytestmark = pytest.mark.netns

FILES = sorted(Path(__file__).parent.joinpath("sctp").glob("*.seq"))
COOKIE_ECHO, DATA, HEARTBEAT, ABORT = 10, 0, 4, 6


@pytest.fixture
def probe(pins: Path) -> Probe:
    return Probe(pins, quota=256)


@pytest.mark.parametrize("opener", ["egress", "ingress"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_associations(file: Path, family: int, opener: str, probe: Probe) -> None:
    associations = read_associations(file)
    assert associations
    for number, association in enumerate(associations):
        ports = (4_000 + number, 80 if opener == "egress" else 443)
        found = []
        for step in association.steps:
            outward = step.from_opener == (opener == "egress")
            outcome = (probe.out if outward else probe.back)(family, f.SCTP, step.packet(ports))
            found.append((step.text, outcome.reason, state_of(probe, family, ports)))
        assert found == [(step.text, step.reason, step.state) for step in association.steps], association.title


@pytest.mark.parametrize("family", [4, 6])
def test_chunks_fill_their_packet_exactly(probe: Probe, family: int) -> None:
    init = f.sctp_chunk(1, f.sctp_init_body(7))

    def sends(chunks: bytes, tag: int = 0) -> object:
        return probe.out(family, f.SCTP, f.sctp(4000, 80, chunks, tag=tag))

    malformed = {
        "no chunk": b"",
        "three bytes": init[:3],
        "an INIT without its last byte": init[:-1],
        "shorter than its own header": struct.pack("!BBH", 1, 0, 3) + init[4:],
        "of no length": struct.pack("!BBH", 1, 0, 0) + init[4:],
        "longer than the packet": struct.pack("!BBH", 1, 0, len(init) + 1) + init[4:],
        "an INIT without its fixed part": f.sctp_chunk(1, f.sctp_init_body(7)[:-4]),
        "bytes behind an INIT": init + bytes(4),
        "an empty chunk behind an INIT": init + f.sctp_chunk(HEARTBEAT, b""),
    }
    assert {what: sends(chunks) for what, chunks in malformed.items()} == dict.fromkeys(malformed, denied("l4-header"))
    assert sends(init) == PASSED
    assert probe.back(family, f.SCTP, f.sctp(80, 4000, f.sctp_chunk(2, f.sctp_init_body(9)), tag=7)) == PASSED
    beat = f.sctp_chunk(HEARTBEAT, b"abcd")
    assert sends(f.sctp_chunk(COOKIE_ECHO, b"c" * 5) + f.sctp_chunk(DATA, bytes(13)), 9) == PASSED, "padded"
    assert sends(beat * 16, 9) == PASSED
    assert sends(beat * 17, 9) == denied("l4-header"), "more control chunks than anybody sends"
    assert sends(beat * 15 + f.sctp_chunk(DATA, bytes(13)) * 20, 9) == PASSED
    assert sends(f.sctp_chunk(HEARTBEAT, b"abcde")[:-3], 9) == denied("l4-header"), "without its padding"


@pytest.mark.parametrize("family", [4, 6])
def test_an_error_quotes_a_tag_of_the_association(probe: Probe, family: int) -> None:
    """RFC 9260, section 10, rules ICMP6 and ICMP7: who sees no packet cannot name its tag."""

    def error_about(tag: int, chunks: bytes) -> object:
        quoted = packet(family, "egress", f.SCTP, f.sctp(4000, 80, chunks, tag=tag))
        body = f.icmp(3, code=1, payload=quoted) if family == 4 else f.icmp(1, code=1, payload=quoted)
        return probe.back(family, f.ICMP if family == 4 else f.ICMPV6, body)

    init, guessed = (f.sctp_chunk(1, f.sctp_init_body(chosen)) for chosen in (7, 8))
    assert error_about(0, init) == denied("icmp-unrelated")
    assert probe.out(family, f.SCTP, f.sctp(4000, 80, init)) == PASSED
    assert error_about(0, init) == PASSED
    assert error_about(0, guessed) == denied("icmp-unrelated")
    assert error_about(0, b"") == denied("icmp-unrelated")
    assert probe.back(family, f.SCTP, f.sctp(80, 4000, f.sctp_chunk(2, f.sctp_init_body(9)), tag=7)) == PASSED
    assert error_about(9, b"") == PASSED
    assert error_about(7, b"") == denied("icmp-unrelated"), "the tag of the other direction"
    assert error_about(1, b"") == denied("icmp-unrelated")


def test_only_data_may_come_in_fragments(probe: Probe) -> None:
    """What begins or ends an association has to be seen whole, and alone where it must be."""

    def send(payload: bytes, field: int) -> object:
        return probe.send("egress", outward(f.ipv4(OWN, PEER, f.SCTP, payload, fragment=field)))

    more = 0x2000
    assert send(f.sctp(4000, 80), more) == denied("fragment")
    assert probe.out(4, f.SCTP, f.sctp(4000, 80, f.sctp_chunk(1, f.sctp_init_body(7)))) == PASSED
    assert probe.back(4, f.SCTP, f.sctp(80, 4000, f.sctp_chunk(2, f.sctp_init_body(9)), tag=7)) == PASSED
    for tag, first, later in ((8, denied("sctp-tag"), denied("fragment-orphan")), (9, PASSED, PASSED)):
        whole = f.sctp(4000, 80, f.sctp_chunk(DATA, bytes(188)), tag=tag)
        assert send(whole[:104], more) == first
        assert send(whole[104:], 104 // 8) == later
    assert send(f.sctp(4000, 80, f.sctp_chunk(ABORT, b""), tag=9), more) == denied("fragment")


def test_an_association_is_shown_with_its_packets(probe: Probe) -> None:
    for family in (4, 6):
        assert probe.out(family, f.SCTP, f.sctp(4000, 80)) == PASSED
    shown = {(flow.protocol, flow.local, flow.remote) for flow in probe.enforcer.flows(ENDPOINT)}
    assert shown == {(f.SCTP, (OWN, 4000), (PEER, 80)), (f.SCTP, (OWN6, 4000), (PEER6, 80))}
