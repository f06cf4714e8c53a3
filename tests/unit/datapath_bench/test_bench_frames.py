"""The benchmark's frames are what they claim to be, and a rotation writes where the port and the address stand."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from hostward.datapath.bench_frames import DATA_FRAME_BYTES, FIRST_PORT, Conversation, TcpFlags
from hostward.datapath.bench_slice import FIRST_PEER, LOCAL, peer_address

CASES = [
    (family, opener, direction)
    for family in (4, 6)
    for opener in ("egress", "ingress")
    for direction in ("egress", "ingress")
]
SERVICE_PORT = 443


@pytest.mark.parametrize(("family", "opener", "direction"), CASES)
def test_a_frame_carries_its_ends(family: int, opener: str, direction: str) -> None:
    frame = Conversation(family, opener, SERVICE_PORT).frame(direction, TcpFlags.ACK)
    first, size = (26, 4) if family == 4 else (22, 16)
    source, destination = (ip_address(frame[at : at + size]) for at in (first, first + size))
    ends = [ip_address(LOCAL[family]), ip_address(peer_address(family, 0))]
    assert [source, destination] == (ends if direction == "egress" else ends[::-1])
    ports = struct.unpack_from("!HH", frame, 34 if family == 4 else 54)
    assert ports == ((FIRST_PORT, SERVICE_PORT) if direction == opener else (SERVICE_PORT, FIRST_PORT))
    assert len(frame) == DATA_FRAME_BYTES


@pytest.mark.parametrize(("family", "opener", "direction"), CASES)
def test_a_rotation_points_at_the_peer_and_at_the_openers_port(family: int, opener: str, direction: str) -> None:
    conversation = Conversation(family, opener, SERVICE_PORT)
    frame = conversation.frame(direction, TcpFlags.SYN)
    rotation = conversation.rotation(direction, TcpFlags.SYN, 100, 2)
    assert struct.unpack_from("!I", frame, rotation["address_offset"]) == (FIRST_PEER,)
    assert struct.unpack_from("!H", frame, rotation["port_offset"]) == (FIRST_PORT,)
    assert struct.unpack_from("!I", frame, rotation["seq_offset"]) == (rotation["seq"],)
    assert rotation["seq_step"] == 0


def test_data_continues_where_earlier_rounds_ended() -> None:
    conversation = Conversation(4, "egress", SERVICE_PORT)
    first, later = (conversation.rotation("egress", TcpFlags.ACK, 1, 1, rounds) for rounds in (0, 7))
    assert later["seq"] - first["seq"] == 7 * first["seq_step"] == 7 * conversation.payload_bytes(TcpFlags.ACK)


@pytest.mark.parametrize("family", [4, 6])
def test_a_syn_has_options_and_no_data(family: int) -> None:
    frame = Conversation(family, "egress", SERVICE_PORT).frame("egress", TcpFlags.SYN)
    assert len(frame) == 14 + (20 if family == 4 else 40) + 40
