"""The bytes of grants and pulses: one encoding of each, and nothing else is read."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.gate.lab import HOST

from hostward.errors import LeaseError
from hostward.gate.cbor import Tagged, decode, encode
from hostward.gate.messages import Grant, Mode, Pulse, read_grant, read_pulse, sign_grant, sign_pulse

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
GRANT = Grant("gate-1", "port-7", HOST, 3, 9, Mode.OPEN, 60_000, b"c" * 16, b"k" * 32, 2_000, b"p" * 32, b"e" * 32)
PULSE = Pulse(HOST, 3, 77, b"n" * 16)


def test_what_was_signed_is_what_is_read_and_fits_a_frame() -> None:
    message = sign_grant(KEY, GRANT)
    assert read_grant(KEY.public_key(), message) == GRANT
    assert len(message) < 400
    assert read_pulse(KEY.public_key(), sign_pulse(KEY, PULSE)) == PULSE


# RFC 8949, appendix A
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"), (23, "17"), (24, "1818"), (1_000_000, "1a000f4240"), (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"), (-100, "3863"), (b"\x01\x02\x03\x04", "4401020304"), ("ü", "62c3bc"), ([1, [2, 3]], "8201820203"),
        ({1: 2, 3: 4}, "a201020304"), (Tagged(1, 1363896240), "c11a514b67b0"),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(value: object, encoded: str) -> None:
    assert encode(value).hex() == encoded
    assert decode(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(
    ("hexadecimal", "why"),
    [
        ("", "ends at offset 0"), ("1800", "not the shortest"), ("190017", "not the shortest"), ("5f4100ff", "indefinite"),
        ("f6", "simple"), ("f93c00", "simple"), ("a201020103", "twice or out of order"), ("a203020102", "out of order"),
        ("a1614100", "no integer"), ("61ff", "no UTF-8"), ("0000", "1 bytes too many"), ("9bffffffffffffffff", "announced"),
        ("bbffffffffffffffff", "announced"), ("5bffffffffffffffff", "ends beyond"), ("818181818181", "nested"),
        ("1c", "reserved"), ("19", "middle of a length"), ("00" * 1_025, "1024 are the limit"),
    ],
)  # fmt: skip
def test_what_is_not_written_so_is_refused(hexadecimal: str, why: str) -> None:
    with pytest.raises(LeaseError, match=why):
        decode(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("value", [1.5, None, True, {"a": 1}, 1 << 64])
def test_what_has_no_place_in_a_message_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, LeaseError)):
        decode(encode({1: value}))


def test_a_flipped_bit_is_never_read() -> None:
    message = sign_grant(KEY, GRANT)
    for bit in range(8 * len(message)):
        flipped = (int.from_bytes(message, "big") ^ 1 << bit).to_bytes(len(message), "big")
        with pytest.raises(LeaseError):
            read_grant(KEY.public_key(), flipped)


def test_a_message_that_ends_early_is_never_read() -> None:
    message = sign_grant(KEY, GRANT)
    for length in range(len(message)):
        with pytest.raises(LeaseError):
            read_grant(KEY.public_key(), message[:length])
