"""Frames: the checksum against the RFC's example, and what every frame has in common."""

from hypothesis import given
from hypothesis import strategies as st

from hostward.lab import frames
from hostward.lab.attacks import attacks_on
from hostward.lab.topology import parse_topology

TOPOLOGY = b"""\
lab: small
hosts: [h1]
endpoints:
  mallory/evil: {host: h1, addresses: [10.66.0.1, "fd00:66::1"]}
  acme/app: {host: h1, addresses: [10.1.0.1, "fd00:1::1"]}
  acme/web: {host: h1, addresses: [10.1.0.2, "fd00:1::2"]}
"""


def test_the_checksum_of_rfc_1071() -> None:
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2


@given(st.binary(max_size=200))
def test_data_with_its_checksum_sums_to_nothing(data: bytes) -> None:
    even = data + bytes(len(data) % 2)
    assert frames.checksum(even + frames.checksum(even).to_bytes(2)) == 0


def test_an_ipv4_header_checks() -> None:
    assert frames.checksum(frames.ip("10.0.0.1", "10.0.0.2", frames.UDP, b"payload")[:20]) == 0


def test_every_attack_can_be_told_by_its_nonce() -> None:
    evil, app, web = parse_topology("lab.yaml", TOPOLOGY).endpoints.values()
    nonce = b"\x01nonce!\xff"
    for attack in attacks_on(evil, app, web, nonce):
        assert attack.frames, attack.name
        for frame in attack.frames:
            assert 60 <= len(frame) <= 1514, attack.name
            assert nonce in frame, attack.name
