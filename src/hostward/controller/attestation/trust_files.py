"""The files of what is trusted: makers' roots, an inventory, reference values (docs/reference/evidence.md).

Everything is bounded and every error names its file. What a host sent is read by the same means where it lies in files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hostward.attest import certificate, reference
from hostward.attest.certificate import Certificate
from hostward.attest.pem import certificates_in
from hostward.errors import EvidenceError, HostwardError

MOST_SMALL = 64 << 10
_MOST_FILES = 256
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class TrustFolder:
    """What an operator trusts."""

    roots: Sequence[Certificate] = ()
    inventory: frozenset[str] = frozenset()
    reference: reference.Reference | None = None


def read_trust_folder(folder: Path) -> TrustFolder:
    """Read a folder; what is not there is not trusted. Raises HostwardError, naming the file."""
    roots = [
        named(path, lambda data=data: certificate.parse_certificate(data))  # type: ignore[misc]
        for path in files_in(folder / "roots")
        for data in certificates_of(path)
    ]
    inventory = (optional(folder / "inventory", 64 << 20) or b"").decode("ascii", "replace").split()
    return TrustFolder(roots, frozenset(inventory), _reference(folder))


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """A file's content. Raises EvidenceError if it is longer than a kind of evidence may be."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise HostwardError(f"cannot be read: {error.strerror}", subject=str(path)) from error
    if len(content) > most_bytes:
        raise EvidenceError(f"the file is longer than {most_bytes} bytes", offset=most_bytes, subject=str(path))
    return content


def _reference(folder: Path) -> reference.Reference | None:
    files = [path for path in files_in(folder / "reference") if path.suffix == ".json"]
    if not files:
        return None
    keys = [named(path, lambda path=path: _signing_key(path)) for path in files_in(folder / "reference-keys")]  # type: ignore[misc]
    contents = []
    for path in files:
        content = read_bounded(path, reference.MOST_BYTES)
        signature = read_bounded(path.with_name(f"{path.name}.sig"), MOST_SMALL)
        named(path, lambda: reference.verify_reference(content, signature, keys))  # noqa: B023 - called at once
        contents.append(content)
    return named(folder / "reference", lambda: reference.read_reference(contents))


def _signing_key(path: Path) -> Ed25519PublicKey:
    key = load_pem_public_key(read_bounded(path, MOST_SMALL))
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("reference values are signed with Ed25519")
    return key


def certificates_of(path: Path) -> list[bytes]:
    """The certificates of a file, each as DER. Raises EvidenceError."""
    content = read_bounded(path, 1 << 20)
    return named(path, lambda: certificates_in(content))


def optional(path: Path, most_bytes: int) -> bytes | None:
    """A file's content, None if there is none."""
    return read_bounded(path, most_bytes) if path.exists() else None


def files_in(folder: Path) -> list[Path]:
    """The files of a folder by name; none if there is no folder. Raises EvidenceError if there are too many."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if len(files) > _MOST_FILES:
        raise EvidenceError(f"more than {_MOST_FILES} files", subject=str(folder))
    return files


def json_in(path: Path) -> dict[str, Any]:
    """A file's object; empty if there is no file."""
    content = optional(path, 1 << 20)
    if content is None:
        return {}
    value = named(path, lambda: json.loads(content))
    if not isinstance(value, dict):
        raise EvidenceError("is no JSON object", subject=str(path))
    return value


def named(path: Path, step: Callable[[], Answer]) -> Answer:
    """Errors get the file's name."""
    try:
        return step()
    except EvidenceError as error:
        error.subject = error.subject or str(path)
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"cannot be read: {type(error).__name__}: {str(error)[:80]}", subject=str(path)) from error
