"""Who vouches for a TPM: chains, the profile's rules, makers nobody trusts, and certificates that are not quite DER."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

import pytest
from bench.attester import BEGUN, EK_ATTRIBUTES, NOW, Maker, PrivateKey, public_area
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hostward.attest.certificate import parse_certificate
from hostward.attest.ek_certificate import MOST_INTERMEDIATES, Endorsement, ek_hash, endorse
from hostward.attest.makers import maker_name
from hostward.attest.pem import certificates_in
from hostward.attest.public import TpmPublic, parse_public
from hostward.errors import EvidenceError

MAKER = Maker()
KEY = ec.generate_private_key(ec.SECP256R1())


def public(key: PrivateKey) -> TpmPublic:
    return parse_public(public_area(key, attributes=EK_ATTRIBUTES, endorsement=True))


def judge(
    certificate: bytes | None,
    *,
    key: PrivateKey = KEY,
    between: tuple[bytes, ...] | None = None,
    roots: tuple[bytes, ...] | None = None,
    inventory: frozenset[str] = frozenset(),
    now: datetime = NOW,
) -> Endorsement:
    trusted = [parse_certificate(each) for each in (roots if roots is not None else (MAKER.root(),))]
    return endorse(public(key), certificate, between if between is not None else (MAKER.ca(),), trusted, inventory, now)


@pytest.mark.parametrize("key", [KEY, rsa.generate_private_key(65537, 2048)])
def test_a_chain_to_a_trusted_root_endorses(key: PrivateKey) -> None:
    found = judge(MAKER.endorse(key), key=key)
    assert found.by == "CN=maker root"
    assert found.manufacturer == "HWWD (id:48575744)"
    assert found.model == "software"
    assert found.ek == ek_hash(public(key))


def test_the_ca_may_be_trusted_itself() -> None:
    assert judge(MAKER.endorse(KEY), between=(), roots=(MAKER.ca(),)).by == "CN=maker ca"


def test_an_unknown_maker_is_refused_by_name() -> None:
    other = Maker()
    with pytest.raises(
        EvidenceError, match=r"the maker HWWD \(id:48575744\) is unknown.*issuer is CN=maker ca.*not signed by"
    ):
        judge(other.endorse(KEY))
    with pytest.raises(EvidenceError, match="no trusted root issued"):
        judge(other.endorse(KEY), between=(other.ca(),), roots=())
    # The host sends its own root along: what it sends is never trusted.
    with pytest.raises(EvidenceError, match="no trusted root issued"):
        judge(other.endorse(KEY), between=(other.ca(), other.root()))


def test_a_listed_key_needs_no_certificate() -> None:
    name = ek_hash(public(KEY))
    assert judge(None, inventory=frozenset({name})).by == "inventory"
    with pytest.raises(EvidenceError, match="not in the inventory") as refused:
        judge(None)
    assert name in refused.value.hint


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (MAKER.endorse(ec.generate_private_key(ec.SECP256R1())), "of another key"),
        (MAKER.endorse(KEY, extended=False), "no extended key usage"),
        (MAKER.endorse(KEY, named=False), "no alternative name"),
        (MAKER.endorse(KEY, until=NOW - timedelta(days=1)), "was valid until 2026-11-27"),
        (MAKER.ca(), "is of a certificate authority"),
        (MAKER.endorse(KEY)[:-1], "a value of"),
        (MAKER.endorse(KEY) + b"more", "4 bytes follow"),
        (b"", "cut off"),
    ],
)
def test_the_profiles_rules(certificate: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        judge(certificate)


def test_what_is_not_valid_yet_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not valid before 2026-01-01"):
        judge(MAKER.endorse(KEY), now=BEGUN - timedelta(seconds=1))


def test_who_is_no_authority_endorses_nothing() -> None:
    with pytest.raises(EvidenceError, match="is no certificate authority"):
        judge(MAKER.endorse(KEY), between=(MAKER.ca(authority=False),))


def test_a_changed_certificate_is_refused() -> None:
    good = MAKER.endorse(KEY)
    at = good.index(b"software")
    with pytest.raises(EvidenceError, match="not signed by CN=maker ca"):
        judge(good[:at] + b"hardware" + good[at + 8 :])


def test_the_search_for_a_root_is_bounded() -> None:
    with pytest.raises(EvidenceError, match="certificates between"):
        judge(MAKER.endorse(KEY), between=(MAKER.ca(),) * (MOST_INTERMEDIATES + 1))
    # A ring of authorities that sign each other leads nowhere, and ends.
    with pytest.raises(EvidenceError, match="no trusted root"):
        judge(MAKER.endorse(KEY), between=(MAKER.ca(), MAKER.root()) * 8, roots=())


def test_padding_and_needlessly_long_lengths_are_read() -> None:
    """What makers burn into NV: the index is longer than the certificate, and DER is not quite DER."""
    good = MAKER.endorse(KEY)
    assert judge(good + bytes(100)).by == judge(good + b"\xff" * 100).by == "CN=maker root"
    assert good[:2] == b"\x30\x82"
    longer = b"\x30\x83\0" + good[2:]  # three bytes of length where two would do
    assert judge(longer).by == "CN=maker root"


def test_files_of_pem_hold_several() -> None:
    ca = MAKER.ca()
    block = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(ca) + b"-----END CERTIFICATE-----\n"
    assert certificates_in(b"text\n" + block + block) == [ca, ca]
    assert certificates_in(ca) == [ca]
    for bad in (b"-----BEGIN CERTIFICATE-----\n", block.replace(b"MII", b"=II"), block * 65):
        with pytest.raises(EvidenceError):
            certificates_in(bad)


def test_makers_by_name() -> None:
    assert maker_name("id:494E5443") == "Intel (id:494E5443)"
    assert maker_name("id:49465800") == "Infineon (id:49465800)"
    assert maker_name("id:00001014") == "id:00001014"
    assert maker_name("nonsense") == "nonsense"
