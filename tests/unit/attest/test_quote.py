"""Quotes and their signatures: what a TPM made is read, and nothing else is taken for it."""

from __future__ import annotations

import struct

import pytest
from bench.attester import AK_ATTRIBUTES, EK_ATTRIBUTES, public_area, quote_message, selection, sign, sized
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hostward.attest.algorithms import SHA1, SHA256
from hostward.attest.public import check_attestation_key, check_endorsement_key, parse_public
from hostward.attest.quote import parse_quote
from hostward.attest.signature import parse_signature, verify_signature
from hostward.errors import EvidenceError

P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
GOOD = quote_message(b"nonce", bytes(32), [selection(SHA256, (0, 7, 10))], clock_ms=5, resets=6, restarts=7)


def test_a_quote_is_read() -> None:
    quote = parse_quote(GOOD)
    assert quote.qualifying_data == b"nonce"
    assert (quote.clock.clock_ms, quote.clock.reset_count, quote.clock.restart_count) == (5, 6, 7)
    assert [str(each) for each in quote.selection] == ["sha256:0,7,10"]
    assert quote.digest == bytes(32)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (quote_message(b"n", bytes(32), [], magic=0xFF544348), "not TPM_GENERATED"),
        (quote_message(b"n", bytes(32), [], magic=0), "no TPM made this"),
        (quote_message(b"n", bytes(32), [], kind=0x8017), "a certification, not a quote"),
        (quote_message(b"n", bytes(32), [], kind=0x1234), "type 0x1234"),
        (GOOD + b"\0", "1 bytes follow the quote"),
        (quote_message(b"n" * 67, bytes(32), []), "qualifying data has 67 bytes"),
        (quote_message(b"n", bytes(32), [selection(SHA256, (0,))] * 2), "selected twice"),
        (quote_message(b"n", bytes(32), [selection(SHA256, (0,))] * 17), "17 PCR selections"),
        (quote_message(b"n", bytes(32), [struct.pack(">HB", 0x7777, 3) + b"\1\0\0"]), "unknown hash algorithm 0x7777"),
        (quote_message(b"n", bytes(32), [struct.pack(">HB", 0x000B, 4) + b"\0\0\0\1"]), "PCRs above 23"),
    ],
)
def test_what_is_no_quote_is_refused_with_the_reason(message: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        parse_quote(message)


def test_a_quote_that_is_cut_off_anywhere_is_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(EvidenceError, match="are left"):
            parse_quote(GOOD[:size])


def test_banks_without_a_pcr_do_not_count() -> None:
    message = quote_message(b"n", bytes(32), [selection(SHA1, ()), selection(SHA256, (1,))])
    assert [str(each) for each in parse_quote(message).selection] == ["sha256:1"]


@pytest.mark.parametrize(("key", "pss"), [(P256, False), (RSA, False), (RSA, True)])
def test_signatures_of_each_scheme_are_verified(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, pss: bool) -> None:
    public = parse_public(public_area(key, scheme=0x0016 if pss else 0))
    check_attestation_key(public)
    signature = sign(key, GOOD, pss=pss)
    verify_signature(public, parse_signature(signature), GOOD)
    with pytest.raises(EvidenceError, match="not by this key, or not over this quote"):
        verify_signature(public, parse_signature(signature), GOOD[:-1] + b"\1")
    other = ec.generate_private_key(ec.SECP256R1()) if key is P256 else rsa.generate_private_key(65537, 2048)
    with pytest.raises(EvidenceError, match="not by this key"):
        verify_signature(public, parse_signature(sign(other, GOOD, pss=pss)), GOOD)


def test_a_signature_by_another_scheme_than_the_keys_is_refused() -> None:
    public = parse_public(public_area(RSA))
    with pytest.raises(EvidenceError, match="signs by rsassa, and this is signed by rsapss"):
        verify_signature(public, parse_signature(sign(RSA, GOOD, pss=True)), GOOD)
    with pytest.raises(EvidenceError, match="signed by ecdsa"):
        verify_signature(public, parse_signature(sign(P256, GOOD)), GOOD)


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (struct.pack(">HH", 0x0005, 0x000B) + sized(bytes(32)), "unknown signature algorithm 0x0005"),
        (struct.pack(">HH", 0x0014, 0x0004) + sized(bytes(256)), "sha1, which is too weak"),
        (struct.pack(">HH", 0x0014, 0x9999) + sized(bytes(256)), "unknown hash algorithm 0x9999"),
        (struct.pack(">HH", 0x0014, 0x000B) + sized(bytes(256)) + b"x", "follow the signature"),
        (struct.pack(">HH", 0x0018, 0x000B) + sized(bytes(67)) + sized(bytes(32)), "more than 66"),
    ],
)
def test_signatures_that_prove_nothing_are_refused(signature: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        parse_signature(signature)


def test_the_name_is_the_hash_of_the_area_with_or_without_its_length() -> None:
    area = public_area(P256)
    assert parse_public(area).name == parse_public(sized(area)).name == b"\0\x0b" + SHA256.digest(area)


@pytest.mark.parametrize(
    ("without", "added", "why"),
    [
        (0x10000, 0, "not restricted: an unrestricted key also signs what its TPM did not make"),
        (0x2, 0, "not fixedTPM"),
        (0x10, 0, "not fixedParent"),
        (0x20, 0, "not sensitiveDataOrigin"),
        (0x40000, 0, "not sign"),
        (0, 0x20000, "is decrypt"),
        (0, 0x80000, "is x509sign"),
    ],
)
def test_an_attestation_key_needs_its_attributes(without: int, added: int, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        check_attestation_key(parse_public(public_area(P256, attributes=AK_ATTRIBUTES & ~without | added)))


@pytest.mark.parametrize(
    ("without", "added", "why"),
    [(0x10000, 0, "not restricted"), (0x2, 0, "not fixedTPM"), (0x20000, 0, "not decrypt"), (0, 0x40000, "is sign")],
)
def test_an_endorsement_key_needs_its_attributes(without: int, added: int, why: str) -> None:
    area = public_area(RSA, attributes=EK_ATTRIBUTES & ~without | added, endorsement=True)
    with pytest.raises(EvidenceError, match=why):
        check_endorsement_key(parse_public(area))


def test_an_attestation_key_that_signs_sha1_is_refused() -> None:
    with pytest.raises(EvidenceError, match="signs with sha1"):
        check_attestation_key(parse_public(public_area(P256, hash_number=0x0004)))


def test_keys_that_are_none_are_refused() -> None:
    area = public_area(P256)
    with pytest.raises(EvidenceError, match="no point of secp256r1"):
        parse_public(area[:-1] + bytes((area[-1] ^ 1,)))
    with pytest.raises(EvidenceError, match="neither rsa nor ecc"):
        parse_public(b"\0\x08" + area[2:])
    small = rsa.generate_private_key(65537, 1024)
    with pytest.raises(EvidenceError, match="1024 bits"):
        parse_public(public_area(small))
    for size in range(len(area)):
        with pytest.raises(EvidenceError):
            parse_public(area[:size])
