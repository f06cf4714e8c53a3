"""A host whose TPM is keys of Python: evidence of any shape, for benchmarks and for tests that need bad evidence.

It encodes by itself what `hostward.attest` decodes. That both could be wrong in the same way is what the vectors of a real
TPM under `tests/data/attest` are for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from hostward.attest.algorithms import BY_NAME, SHA256, Hash
from hostward.attest.appraisal import Evidence
from hostward.attest.binding import Binding
from hostward.attest.eventlog.types import EventType

GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
AK_ATTRIBUTES = 0x00050072  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
EK_ATTRIBUTES = 0x000300B2  # fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt
SEPARATOR = b"\0\0\0\0"
QUOTED = (*range(10), 10, 14)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 28, tzinfo=UTC)
EK_USAGE = ObjectIdentifier("2.23.133.8.1")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def sized(data: bytes) -> bytes:
    """With sixteen bits of length before it."""
    return struct.pack(">H", len(data)) + data


@dataclass(slots=True)
class BootLog:
    """A log being written, and the PCRs beside it."""

    banks: tuple[Hash, ...] = (SHA256,)
    data: bytearray = field(default_factory=bytearray)
    values: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(self.banks))
        spec += b"".join(struct.pack("<HH", bank.algorithm, bank.size) for bank in self.banks) + b"\0"
        self.data += struct.pack("<II20sI", 0, EventType.EV_NO_ACTION, bytes(20), len(spec)) + spec
        self.values = {bank.name: {} for bank in self.banks}

    def add(self, pcr: int, kind: int, data: bytes, measured: bytes | None = None) -> None:
        """An event; ``measured`` is what was hashed, the data itself unless said otherwise."""
        content = data if measured is None else measured
        self.data += struct.pack("<III", pcr, kind, len(self.banks))
        for bank in self.banks:
            digest = bank.digest(content)
            self.data += struct.pack("<H", bank.algorithm) + digest
            if kind != EventType.EV_NO_ACTION:
                values = self.values[bank.name]
                values[pcr] = bank.extend(values.get(pcr, bytes(bank.size)), digest)
        self.data += struct.pack("<I", len(data)) + data


def variable(name: str, content: bytes, vendor: bytes = GLOBAL_VARIABLE) -> bytes:
    """UEFI_VARIABLE_DATA."""
    return vendor + struct.pack("<QQ", len(name), len(content)) + name.encode("utf-16-le") + content


def image(path: str) -> bytes:
    """UEFI_IMAGE_LOAD_EVENT of a file."""
    node = path.encode("utf-16-le") + b"\0\0"
    device_path = b"\x04\x04" + struct.pack("<H", 4 + len(node)) + node + b"\x7f\xff\x04\x00"
    return struct.pack("<QQQQ", 0x7E000000, 4096, 0, len(device_path)) + device_path


def boot_log(banks: tuple[Hash, ...] = (SHA256,), *, secure_boot: bool = True, commands: int = 60) -> BootLog:
    """A boot through shim and GRUB, some 90 events."""
    log = BootLog(banks)
    log.add(0, EventType.EV_S_CRTM_VERSION, "firmware 1".encode("utf-16-le"))
    log.add(0, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, struct.pack("<QQ", 0x820000, 0xE0000), b"firmware volume")
    log.add(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", bytes((secure_boot,))))
    for name in ("PK", "KEK", "db", "dbx"):
        log.add(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable(name, b""))
    log.add(7, EventType.EV_SEPARATOR, SEPARATOR)
    log.add(1, EventType.EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\0\0"))
    log.add(4, EventType.EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
    for pcr in range(7):
        log.add(pcr, EventType.EV_SEPARATOR, SEPARATOR)
    log.add(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image("\\EFI\\debian\\shimx64.efi"), b"shim")
    log.add(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image("\\EFI\\debian\\grubx64.efi"), b"grub")
    log.add(14, EventType.EV_IPL, b"MokList\0", b"keys")
    for number in range(commands):
        command = f"set line={number}".encode()
        log.add(8, EventType.EV_IPL, b"grub_cmd: " + command + b"\0", command)
    log.add(9, EventType.EV_IPL, b"/boot/vmlinuz\0", b"kernel")
    log.add(9, EventType.EV_IPL, b"/boot/initrd.img\0", b"initrd")
    log.add(5, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation")
    return log


@dataclass(slots=True)
class ImaList:
    """A list being written, and PCR 10 beside it."""

    banks: tuple[Hash, ...] = (SHA256,)
    data: bytearray = field(default_factory=bytearray)
    text: list[str] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {bank.name: bytes(bank.size) for bank in self.banks}

    def add(
        self,
        path: str,
        digest: bytes,
        *,
        signature: bytes | None = None,
        violation: bool = False,
        algorithm: str = "sha256",
    ) -> None:
        """An entry of ima-ng, or of ima-sig if there is a signature, empty or not."""
        fields = [algorithm.encode() + b":\0" + digest, path.encode() + b"\0"]
        if signature is not None:
            fields.append(signature)
        body = b"".join(struct.pack("<I", len(each)) + each for each in fields)
        name = b"ima-ng" if signature is None else b"ima-sig"
        listed = bytes(20) if violation else hashlib.sha1(body).digest()
        self.data += struct.pack("<I20sI", 10, listed, len(name)) + name + struct.pack("<I", len(body)) + body
        more = "" if signature is None else f" {signature.hex()}"
        self.text.append(f"10 {listed.hex()} {name.decode()} {algorithm}:{digest.hex()} {path}{more}\n")
        for bank in self.banks:
            extended = b"\xff" * bank.size if violation else bank.digest(body)
            self.values[bank.name] = bank.extend(self.values[bank.name], extended)


def file_digest(path: str) -> bytes:
    """What a file of this name holds on these hosts, hashed."""
    return hashlib.sha256(f"content of {path}".encode()).digest()


def ima_list(log: BootLog, paths: Sequence[str]) -> ImaList:
    """The list of a machine with this boot and these files."""
    listed = ImaList(log.banks)
    aggregate = aggregate_of(log, SHA256 if SHA256 in log.banks else log.banks[0])
    listed.add("boot_aggregate", aggregate)
    for path in paths:
        listed.add(path, file_digest(path))
    return listed


def aggregate_of(log: BootLog, bank: Hash) -> bytes:
    """What IMA's first entry holds in one bank."""
    values = log.values[bank.name]
    return bank.digest(b"".join(values.get(pcr, bytes(bank.size)) for pcr in range(8 if bank.name == "sha1" else 10)))


def public_area(
    key: PrivateKey,
    *,
    attributes: int = AK_ATTRIBUTES,
    hash_number: int = 0x000B,
    scheme: int = 0,
    endorsement: bool = False,
) -> bytes:
    """TPMT_PUBLIC of an AK, or of an EK."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    policy = hashlib.sha256(b"policy").digest() if endorsement else b""
    area = struct.pack(">HHI", 0x0001 if is_rsa else 0x0023, 0x000B, attributes) + sized(policy)
    if endorsement:
        area += struct.pack(">HHHH", 0x0006, 128, 0x0043, 0x0010)
    else:
        area += struct.pack(">HHH", 0x0010, scheme or (0x0014 if is_rsa else 0x0018), hash_number)
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return area + struct.pack(">HI", key.key_size, 0) + sized(numbers.n.to_bytes(key.key_size // 8, "big"))
    size = (key.curve.key_size + 7) // 8
    point = key.public_key().public_numbers()
    curve = {"secp256r1": 3, "secp384r1": 4}[key.curve.name]
    return (
        area
        + struct.pack(">HH", curve, 0x0010)
        + sized(point.x.to_bytes(size, "big"))
        + sized(point.y.to_bytes(size, "big"))
    )


def selection(bank: Hash, pcrs: Sequence[int]) -> bytes:
    """TPMS_PCR_SELECTION."""
    return struct.pack(">HB", bank.algorithm, 3) + sum(1 << pcr for pcr in pcrs).to_bytes(3, "little")


def quote_message(
    qualifying_data: bytes,
    digest: bytes,
    selections: Sequence[bytes],
    *,
    clock_ms: int = 60_000,
    resets: int = 3,
    restarts: int = 0,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
) -> bytes:
    """TPMS_ATTEST."""
    head = struct.pack(">IH", magic, kind) + sized(b"\0\x0b" + bytes(32)) + sized(qualifying_data)
    clock = struct.pack(">QIIBQ", clock_ms, resets, restarts, 1, 0x2020)
    return head + clock + struct.pack(">I", len(selections)) + b"".join(selections) + sized(digest)


def sign(key: PrivateKey, message: bytes, *, pss: bool = False) -> bytes:
    """TPMT_SIGNATURE over SHA-256."""
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH) if pss else padding.PKCS1v15()
        return struct.pack(">HH", 0x0016 if pss else 0x0014, 0x000B) + sized(key.sign(message, scheme, hashes.SHA256()))
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    size = (key.curve.key_size + 7) // 8
    return struct.pack(">HH", 0x0018, 0x000B) + sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))


@dataclass(slots=True)
class Maker:
    """A maker of TPMs: a root and a CA under it."""

    root_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def root(self) -> bytes:
        """The root certificate."""
        return _certificate("root", self.root_key, "root", self.root_key, (x509.BasicConstraints(True, None),))

    def ca(self, *, authority: bool = True) -> bytes:
        """The certificate of the CA."""
        return _certificate("ca", self.ca_key, "root", self.root_key, (x509.BasicConstraints(authority, None),))

    def endorse(
        self, key: PrivateKey, *, extended: bool = True, named: bool = True, until: datetime | None = None
    ) -> bytes:
        """An EK certificate, or one that lacks what an EK certificate has to have."""
        device = x509.Name(
            [
                x509.NameAttribute(ObjectIdentifier("2.23.133.2.1"), "id:48575744"),
                x509.NameAttribute(ObjectIdentifier("2.23.133.2.2"), "software"),
                x509.NameAttribute(ObjectIdentifier("2.23.133.2.3"), "id:00010000"),
            ]
        )
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(False, None)]
        if named:
            extensions.append(x509.SubjectAlternativeName([x509.DirectoryName(device)]))
        if extended:
            extensions.append(x509.ExtendedKeyUsage([EK_USAGE]))
        return _certificate("", key, "ca", self.ca_key, extensions, until)


def _certificate(
    subject: str,
    key: PrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[x509.ExtensionType],
    until: datetime | None = None,
) -> bytes:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"maker {text}")] if text else [])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGUN)
        .not_valid_after(until or BEGUN + timedelta(days=10_000))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass(slots=True)
class Host:
    """A host with keys, a boot and files, which answers nonces."""

    ak: PrivateKey
    ek: PrivateKey
    maker: Maker
    log: BootLog
    ima: ImaList
    binding: Binding | None = field(default_factory=lambda: Binding(tls_key=b"tls", revision=7))
    clock_ms: int = 60_000
    resets: int = 3

    def ak_name(self) -> bytes:
        """The name of the attestation key."""
        return b"\0\x0b" + hashlib.sha256(public_area(self.ak)).digest()

    def digest(self, bank: Hash = SHA256, pcrs: Sequence[int] = QUOTED) -> bytes:
        """The PCR digest, over SHA-256 as the key signs."""
        values = {**self.log.values[bank.name], 10: self.ima.values[bank.name]}
        return hashlib.sha256(b"".join(values.get(pcr, bytes(bank.size)) for pcr in pcrs)).digest()

    def evidence(self, nonce: bytes, message: bytes | None = None) -> Evidence:
        """Evidence for a nonce; ``message`` is signed in place of the quote."""
        if message is None:
            data = self.binding.qualifying_data(nonce) if self.binding else nonce
            selections = (selection(SHA256, QUOTED),)
            message = quote_message(data, self.digest(), selections, clock_ms=self.clock_ms, resets=self.resets)
        return Evidence(
            quote=message,
            signature=sign(self.ak, message),
            ak=sized(public_area(self.ak)),
            event_log=bytes(self.log.data),
            ima=bytes(self.ima.data),
            ek=public_area(self.ek, attributes=EK_ATTRIBUTES, endorsement=True),
            ek_certificate=self.maker.endorse(self.ek),
            intermediates=(self.maker.ca(),),
            binding=self.binding,
        )


def host(*, ak: PrivateKey | None = None, files: int = 20, banks: tuple[Hash, ...] = (SHA256,)) -> Host:
    """A good host with so many files."""
    log = boot_log(banks)
    return Host(
        ak or ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
        Maker(),
        log,
        ima_list(log, [f"/usr/bin/tool-{number}" for number in range(files)]),
    )


def bank_named(name: str) -> Hash:
    """A bank by its name."""
    return BY_NAME[name]
