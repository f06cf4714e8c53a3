"""X.509 certificates read leniently and verified strictly: the fields that a path of EK certificates is decided by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from hostward.attest import der
from hostward.attest.der import Element, oid_text, read_element
from hostward.attest.public import PublicKey
from hostward.errors import EvidenceError

MOST_BYTES = 16 << 10
_MOST_EXTENSIONS = 64
_RSA_KEYS = ("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.7", "1.2.840.113549.1.1.10")  # plain, OAEP (some EKs), PSS
_EC_KEY = "1.2.840.10045.2.1"
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1,
    "1.3.132.0.34": ec.SECP384R1,
    "1.3.132.0.35": ec.SECP521R1,
}
_RSA_SIGNATURES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_EC_SIGNATURES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_PSS_SIGNATURE = "1.2.840.113549.1.1.10"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_NAMES = {"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension as it came."""

    critical: bool
    value: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was read. ``signed`` are the bytes under the signature; names are compared as the bytes that they came in."""

    signed: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    key: PublicKey
    extensions: Mapping[str, Extension]
    signature_algorithm: str
    signature_hash: hashes.HashAlgorithm | None
    signature: bytes

    def subject_text(self) -> str:
        """The subject for people."""
        return name_text(self.subject)

    def issuer_text(self) -> str:
        """The issuer for people."""
        return name_text(self.issuer)


def parse_certificate(data: bytes) -> Certificate:
    """Read a certificate; what pads an NV index behind it is left alone. Raises EvidenceError."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(f"a certificate of {len(data)} bytes, more than {MOST_BYTES}", offset=MOST_BYTES)
    outer, end = read_element(data)
    if data[end:].strip(b"\0\xff\n\r"):
        raise EvidenceError(f"{len(data) - end} bytes follow the certificate", offset=end)
    parts = list(outer.expect(der.SEQUENCE, "the certificate").children())
    if len(parts) != 3:
        raise EvidenceError(f"a certificate of {len(parts)} parts, not 3", offset=0)
    body, algorithm, signature = parts
    fields = list(body.expect(der.SEQUENCE, "what is signed").children())
    if not fields or fields[0].tag != 0xA0 or fields[0].body[-1:] != b"\x02":
        raise EvidenceError("the certificate is not of version 3", offset=body.offset)
    if len(fields) < 8:
        raise EvidenceError("the certificate lacks fields, or extensions", offset=body.offset)
    _, _, inner, issuer, validity, subject, key, *optional = fields
    # RFC 5280, 4.1.1.2: else an attacker could have the signature read by another algorithm than was signed.
    if inner.body != algorithm.body:
        raise EvidenceError("two signature algorithms that differ", offset=algorithm.offset)
    name, used = _signature_algorithm(algorithm)
    times = list(validity.children())
    if len(times) != 2:
        raise EvidenceError("a validity that is not of two times", offset=validity.offset)
    if signature.expect(der.BIT_STRING, "the signature").body[:1] != b"\0":
        raise EvidenceError("a signature that is not of whole bytes", offset=signature.offset)
    return Certificate(
        body.whole,
        issuer.whole,
        subject.whole,
        _time(times[0]),
        _time(times[1]),
        _key(key),
        _extensions(optional),
        name,
        used,
        signature.body[1:],
    )


def verify_issued_by(certificate: Certificate, issuer: Certificate) -> None:
    """Whether the issuer's key signed it. Raises EvidenceError."""
    used = certificate.signature_hash
    if used is None:
        raise EvidenceError(f"the signature algorithm {certificate.signature_algorithm} is unknown or too weak")
    key = issuer.key
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and certificate.signature_algorithm in _EC_SIGNATURES:
            key.verify(certificate.signature, certificate.signed, ec.ECDSA(used))
        elif isinstance(key, rsa.RSAPublicKey) and certificate.signature_algorithm in _RSA_SIGNATURES:
            key.verify(certificate.signature, certificate.signed, padding.PKCS1v15(), used)
        elif isinstance(key, rsa.RSAPublicKey) and certificate.signature_algorithm == _PSS_SIGNATURE:
            pss = padding.PSS(padding.MGF1(used), padding.PSS.AUTO)
            key.verify(certificate.signature, certificate.signed, pss, used)
        else:
            raise EvidenceError(f"the signature algorithm {certificate.signature_algorithm} is not of the issuer's key")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise EvidenceError(f"not signed by {issuer.subject_text()}") from error


def name_text(name: bytes) -> str:
    """A distinguished name as people know it; what cannot be read is left out."""
    words = [f"{_NAMES.get(oid, oid)}={value}" for oid, value in attributes(name)]
    return ", ".join(words) or "(no name)"


def attributes(name: bytes) -> list[tuple[str, str]]:
    """Types and values of a distinguished name, in order; empty if it cannot be read."""
    found: list[tuple[str, str]] = []
    try:
        for part in read_element(name)[0].children():
            for pair in part.children():
                oid, value = list(pair.children())[:2]
                found.append((oid_text(oid.body, oid.offset), value.body.decode("utf-8", "replace")))
    except (EvidenceError, ValueError):
        return []
    return found


def _signature_algorithm(algorithm: Element) -> tuple[str, hashes.HashAlgorithm | None]:
    parts = list(algorithm.expect(der.SEQUENCE, "the signature algorithm").children())
    if not parts:
        raise EvidenceError("no signature algorithm", offset=algorithm.offset)
    name = oid_text(parts[0].expect(der.OID, "the signature algorithm").body, parts[0].offset)
    if name == _PSS_SIGNATURE and len(parts) > 1:
        for field in parts[1].children():
            if field.tag == 0xA0:
                inner = [oid for each in field.children() for oid in each.children() if oid.tag == der.OID]
                return name, _HASHES.get(oid_text(inner[0].body, inner[0].offset)) if inner else None
    return name, _RSA_SIGNATURES.get(name) or _EC_SIGNATURES.get(name)


def _time(element: Element) -> datetime:
    try:
        text = element.body.decode("ascii")
        if element.tag == der.UTC_TIME:
            # RFC 5280, 4.1.2.5.1: two digits are of 1950 to 2049.
            text = ("19" if int(text[:2]) >= 50 else "20") + text
        elif element.tag != der.GENERALIZED_TIME:
            raise ValueError
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise EvidenceError("a time that cannot be read", offset=element.offset) from None


def _key(element: Element) -> PublicKey:
    parts = list(element.expect(der.SEQUENCE, "the key").children())
    if len(parts) != 2:
        raise EvidenceError("a key that is not of two parts", offset=element.offset)
    algorithm = list(parts[0].expect(der.SEQUENCE, "the key's algorithm").children())
    bits = parts[1].expect(der.BIT_STRING, "the key").body[1:]
    name = oid_text(algorithm[0].body, algorithm[0].offset) if algorithm else ""
    try:
        if name in _RSA_KEYS:
            numbers = list(read_element(bits, 0, parts[1].offset)[0].expect(der.SEQUENCE, "the RSA key").children())
            modulus, exponent = (int.from_bytes(number.body, "big") for number in numbers[:2])
            if not 2048 <= modulus.bit_length() <= 8192 or exponent.bit_length() > 32:
                raise ValueError(f"an RSA key of {modulus.bit_length()} bits")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if name == _EC_KEY and len(algorithm) == 2:
            curve = _CURVES.get(oid_text(algorithm[1].body, algorithm[1].offset))
            if curve is not None:
                return ec.EllipticCurvePublicKey.from_encoded_point(curve(), bits)
    except ValueError as error:
        raise EvidenceError(f"a key that cannot be read: {error}", offset=element.offset) from error
    raise EvidenceError(f"a key of an unknown kind ({name})", offset=element.offset)


def _extensions(optional: list[Element]) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    for field in optional:
        if field.tag != 0xA3:
            continue
        outer = next(field.children(), None)
        if outer is None:
            raise EvidenceError("no extensions where they should be", offset=field.offset)
        for each in outer.children():
            parts = list(each.expect(der.SEQUENCE, "an extension").children())
            if len(parts) not in (2, 3) or len(found) == _MOST_EXTENSIONS:
                raise EvidenceError("an extension that cannot be read", offset=each.offset)
            name = oid_text(parts[0].expect(der.OID, "an extension's type").body, parts[0].offset)
            critical = len(parts) == 3 and parts[1].body not in (b"", b"\0")
            value = parts[-1].expect(der.OCTET_STRING, "an extension's value")
            if name in found:
                raise EvidenceError(f"the extension {name} twice", offset=each.offset)
            found[name] = Extension(critical, value.body, value.offset)
    return found
