"""EK certificates: that a maker whom the operator trusts says of this key that it lies in a TPM of his.

Rules of the TCG EK Credential Profile for TPM Family 2.0, section 3. Certificates between come from the host and are not
trusted; what is trusted are the roots, and keys that the operator listed himself. Revocation is not looked up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from hostward.attest import der
from hostward.attest.certificate import Certificate, attributes, parse_certificate, verify_issued_by
from hostward.attest.der import oid_text, read_element
from hostward.attest.makers import maker_name
from hostward.attest.public import TpmPublic
from hostward.errors import EvidenceError

_KEY_USAGE, _ALTERNATIVE_NAME, _BASIC_CONSTRAINTS, _EXTENDED_USAGE = "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"
# Critical extensions that were looked at, or that say nothing about a path of this kind (policies; subject attributes).
_UNDERSTOOD = frozenset(
    {
        _KEY_USAGE,
        _ALTERNATIVE_NAME,
        _BASIC_CONSTRAINTS,
        _EXTENDED_USAGE,
        "2.5.29.32",
        "2.5.29.9",
        "2.5.29.35",
        "2.5.29.14",
    }
)
_EK_USAGE = "2.23.133.8.1"
_ANY_USAGE = "2.5.29.37.0"
_MANUFACTURER, _MODEL, _VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"
_KEY_ENCIPHERMENT, _KEY_AGREEMENT, _CERTIFICATE_SIGN = 2, 4, 5
MOST_INTERMEDIATES = 16
_MOST_DEPTH = 6
_MOST_SIGNATURES = 32
_EVER_SINCE, _FOR_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Endorsement:
    """Who vouches for a TPM: its maker's words from the certificate, or the operator's own list."""

    ek: str  # SHA-256 of the key, in hexadecimal: what the host is called
    by: str
    manufacturer: str = ""
    model: str = ""
    version: str = ""
    since: datetime = _EVER_SINCE
    until: datetime = _FOR_EVER  # when the first certificate of the path ends


def ek_hash(key: TpmPublic) -> str:
    """The name of a host: SHA-256 of its EK's SubjectPublicKeyInfo."""
    return hashlib.sha256(key.subject_public_key_info()).hexdigest()


def endorse(
    key: TpmPublic,
    certificate: bytes | None,
    intermediates: Sequence[bytes],
    roots: Sequence[Certificate],
    inventory: frozenset[str],
    now: datetime,
    read: Callable[[bytes], Certificate] = parse_certificate,
) -> Endorsement:
    """Who vouches for this EK at this time. Raises EvidenceError that names the maker nobody trusts, or the rule broken."""
    name = ek_hash(key)
    if name in inventory:
        return Endorsement(name, "inventory")
    if certificate is None:
        raise EvidenceError(
            "no EK certificate, and the key is not in the inventory", hint=f"add {name} if you know this TPM"
        )
    leaf = read(certificate)
    manufacturer, model, version = _check_leaf(leaf)
    if leaf.key.public_numbers() != key.key.public_numbers():
        raise EvidenceError("the EK certificate is of another key")
    if len(intermediates) > MOST_INTERMEDIATES:
        raise EvidenceError(f"{len(intermediates)} certificates between, more than {MOST_INTERMEDIATES}")
    between = [read(each) for each in intermediates]
    _check_time(leaf, now)
    path = _Path(between, roots, now)
    found = path.build(leaf, 0)
    if not found:
        why = f" ({'; '.join(path.refused)})" if path.refused else ""
        raise EvidenceError(
            f"the maker {maker_name(manufacturer)} is unknown: no trusted root issued this EK certificate; "
            f"its issuer is {leaf.issuer_text()}{why}",
            hint="add the maker's root to the trusted ones, or this key to the inventory",
        )
    since = max(each.not_before for each in (leaf, *found))
    until = min(each.not_after for each in (leaf, *found))
    return Endorsement(name, found[-1].subject_text(), maker_name(manufacturer), model, version, since, until)


class _Path:
    """A search for a root, in bounded depth and a bounded number of signatures."""

    def __init__(self, between: Sequence[Certificate], roots: Sequence[Certificate], now: datetime) -> None:
        self._between = between
        self._roots = roots
        self._now = now
        self._signatures = 0
        self.refused: list[str] = []

    def build(self, certificate: Certificate, below: int) -> tuple[Certificate, ...]:
        """The issuers up to a root, empty if there is no path; ``below`` counts the CAs under the first."""
        for candidates, trusted in ((self._roots, True), (self._between, False)):
            for issuer in candidates:
                if issuer.subject != certificate.issuer or self._signatures >= _MOST_SIGNATURES:
                    continue
                self._signatures += 1
                try:
                    _check_issuer(issuer, below, self._now)
                    verify_issued_by(certificate, issuer)
                except EvidenceError as error:
                    self.refused.append(f"{issuer.subject_text()}: {error.what}")
                    continue
                if trusted:
                    return (issuer,)
                if below < _MOST_DEPTH:
                    above = self.build(issuer, below + 1)
                    if above:
                        return (issuer, *above)
        return ()


def _check_issuer(issuer: Certificate, below: int, now: datetime) -> None:
    _check_critical(issuer)
    _check_time(issuer, now)
    is_authority, most_below = _basic_constraints(issuer)
    if not is_authority:
        raise EvidenceError("is no certificate authority")
    if most_below is not None and below > most_below:
        raise EvidenceError(f"may have {most_below} authorities below it, and has {below}")
    usage = _key_usage(issuer)
    if usage is not None and _CERTIFICATE_SIGN not in usage:
        raise EvidenceError("its key may not sign certificates")


def _check_leaf(leaf: Certificate) -> tuple[str, str, str]:
    """The rules of the profile for the EK certificate itself; gives manufacturer, model and version."""
    _check_critical(leaf)
    if _basic_constraints(leaf)[0]:
        raise EvidenceError("the EK certificate is of a certificate authority")
    usage = _key_usage(leaf)
    wanted, word = (
        (_KEY_ENCIPHERMENT, "keyEncipherment")
        if isinstance(leaf.key, rsa.RSAPublicKey)
        else (_KEY_AGREEMENT, "keyAgreement")
    )
    if usage is not None and wanted not in usage:
        raise EvidenceError(f"the EK certificate's key usage lacks {word}")
    extended = leaf.extensions.get(_EXTENDED_USAGE)
    if extended is None:
        raise EvidenceError("the EK certificate has no extended key usage")
    outer = read_element(extended.value, 0, extended.offset)[0]
    names = [oid_text(each.body, each.offset) for each in outer.children()]
    if _EK_USAGE not in names and _ANY_USAGE not in names:
        raise EvidenceError(f"the EK certificate's extended key usage is {', '.join(names)}, without {_EK_USAGE}")
    return _device(leaf)


def _device(leaf: Certificate) -> tuple[str, str, str]:
    alternative = leaf.extensions.get(_ALTERNATIVE_NAME)
    if alternative is None:
        raise EvidenceError("the EK certificate has no alternative name, which says the TPM's maker and model")
    found: dict[str, str] = {}
    for general in read_element(alternative.value, 0, alternative.offset)[0].children():
        if (
            general.tag == 0xA4
        ):  # a directory name; some makers put each attribute into a set of its own, others all in one
            found.update(attributes(general.body))
    lacking = [
        word
        for word, oid in (("manufacturer", _MANUFACTURER), ("model", _MODEL), ("version", _VERSION))
        if oid not in found
    ]
    if lacking:
        raise EvidenceError(f"the EK certificate's alternative name lacks the TPM's {', '.join(lacking)}")
    return found[_MANUFACTURER], found[_MODEL], found[_VERSION]


def _check_critical(certificate: Certificate) -> None:
    for name, extension in certificate.extensions.items():
        if extension.critical and name not in _UNDERSTOOD:
            raise EvidenceError(
                f"{certificate.subject_text()} has the critical extension {name}, which is unknown here"
            )


def _check_time(certificate: Certificate, now: datetime) -> None:
    if now < certificate.not_before:
        raise EvidenceError(f"{certificate.subject_text()} is not valid before {certificate.not_before:%Y-%m-%d}")
    if now > certificate.not_after:
        raise EvidenceError(f"{certificate.subject_text()} was valid until {certificate.not_after:%Y-%m-%d}")


def _basic_constraints(certificate: Certificate) -> tuple[bool, int | None]:
    extension = certificate.extensions.get(_BASIC_CONSTRAINTS)
    if extension is None:
        return False, None
    parts = list(read_element(extension.value, 0, extension.offset)[0].children())
    is_authority = bool(parts) and parts[0].tag == der.BOOLEAN and parts[0].body not in (b"", b"\0")
    most = next((int.from_bytes(part.body, "big") for part in parts if part.tag == der.INTEGER), None)
    return is_authority, most


def _key_usage(certificate: Certificate) -> frozenset[int] | None:
    """Numbers of the bits that are set (RFC 5280, 4.2.1.3), None where usage is not restricted."""
    extension = certificate.extensions.get(_KEY_USAGE)
    if extension is None:
        return None
    bits = read_element(extension.value, 0, extension.offset)[0].expect(der.BIT_STRING, "the key usage").body[1:]
    return frozenset(8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte << bit & 0x80)
