"""A folder of stored evidence: which file is what (docs/reference/evidence.md). A host may have filled it.

What a host sent lies in the folder itself. What the verifier trusted lies under `verifier/`, or where `--trust` says; it is
never taken from a host.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hostward.attest import certificate, ima, reference
from hostward.attest.appraisal import Evidence, Trust
from hostward.attest.binding import Binding
from hostward.attest.epoch import Epoch
from hostward.attest.eventlog import log
from hostward.attest.ima import Checkpoint
from hostward.attest.pem import certificates_in
from hostward.attest.quote import Clock
from hostward.errors import EvidenceError, HostwardError

_MOST_SMALL = 64 << 10
_MOST_FILES = 256
_KEYS = ("tls_key", "pulse_key", "encryption_key", "boot_id")
Answer = TypeVar("Answer")


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


def read_evidence(folder: Path) -> Evidence:
    """What a host sent. Raises HostwardError, naming the file."""
    if not folder.is_dir():
        raise HostwardError("is no folder of evidence", subject=str(folder), hint="see docs/reference/evidence.md")
    leaf = _optional(folder / "ek.crt", certificate.MOST_BYTES * 2)
    chain = [data for path in _files(folder / "ek-chain") for data in _certificates(path)]
    found = [] if leaf is None else _of(folder / "ek.crt", lambda: certificates_in(leaf))
    return Evidence(
        quote=read_bounded(folder / "quote.msg", _MOST_SMALL),
        signature=read_bounded(folder / "quote.sig", _MOST_SMALL),
        ak=read_bounded(folder / "ak.pub", _MOST_SMALL),
        event_log=read_bounded(folder / "eventlog", log.MOST_BYTES),
        ima=_optional(folder / "ima", 2 * ima.MOST_BYTES) or b"",
        ek=_optional(folder / "ek.pub", _MOST_SMALL) or b"",
        ek_certificate=found[0] if found else None,
        intermediates=(*found[1:], *chain),
        binding=_binding(folder / "binding.json"),
    )


def read_trust(folder: Path, without: frozenset[str]) -> Trust:
    """What the verifier knew. Raises HostwardError, naming the file."""
    roots = [
        _of(path, lambda data=data: certificate.parse_certificate(data))  # type: ignore[misc]
        for path in _files(folder / "roots")
        for data in _certificates(path)
    ]
    inventory = (_optional(folder / "inventory", 64 << 20) or b"").decode("ascii", "replace").split()
    enrolled = _json(folder / "enrolled.json")
    state = _json(folder / "last.json")
    return Trust(
        roots=roots,
        inventory=frozenset(inventory),
        reference=_reference(folder),
        enrolled_ak=_of(folder / "enrolled.json", lambda: bytes.fromhex(enrolled["ak_name"])) if enrolled else None,
        enrolled_ek=str(enrolled.get("ek", "")),
        last=_of(folder / "last.json", lambda: _epoch(state)) if state else None,
        checkpoint=_of(folder / "last.json", lambda: _checkpoint(state)) if state else Checkpoint(),
        without=without,
    )


def _reference(folder: Path) -> reference.Reference | None:
    files = [path for path in _files(folder / "reference") if path.suffix == ".json"]
    if not files:
        return None
    keys = [_of(path, lambda path=path: _signing_key(path)) for path in _files(folder / "reference-keys")]  # type: ignore[misc]
    contents = []
    for path in files:
        content = read_bounded(path, reference.MOST_BYTES)
        signature = read_bounded(path.with_name(f"{path.name}.sig"), _MOST_SMALL)
        _of(path, lambda: reference.verify_reference(content, signature, keys))  # noqa: B023 - called at once
        contents.append(content)
    return _of(folder / "reference", lambda: reference.read_reference(contents))


def _signing_key(path: Path) -> Ed25519PublicKey:
    key = load_pem_public_key(read_bounded(path, _MOST_SMALL))
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("reference values are signed with Ed25519")
    return key


def _binding(path: Path) -> Binding | None:
    if not path.exists():
        return None
    value = _json(path)

    def read() -> Binding:
        unknown = set(value) - {*_KEYS, "revision", "programs", "policies"}
        if unknown:
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        tls, pulse, encryption, boot_id = (bytes.fromhex(value.get(key, "")) for key in _KEYS)
        programs, policies = (
            {str(name): bytes.fromhex(digest) for name, digest in value.get(key, {}).items()}
            for key in ("programs", "policies")
        )
        return Binding(tls, pulse, encryption, boot_id, int(value.get("revision", 0)), programs, policies)

    return _of(path, read)


def _epoch(state: dict[str, Any]) -> Epoch:
    clock = Clock(int(state["clock_ms"]), int(state["reset_count"]), int(state["restart_count"]), safe=True)
    boot_id = bytes.fromhex(state.get("boot_id", ""))
    return Epoch(bytes.fromhex(state["ak_name"]), clock, boot_id, int(state.get("revision", 0)))


def _checkpoint(state: dict[str, Any]) -> Checkpoint:
    ima_state = state.get("ima")
    if not ima_state:
        return Checkpoint()
    values = {bank: bytes.fromhex(value) for bank, value in ima_state["values"].items()}
    return Checkpoint(int(ima_state["offset"]), int(ima_state["entries"]), values, str(ima_state["reference"]))


def shown_state(epoch: Epoch | None, checkpoint: Checkpoint | None) -> dict[str, object] | None:
    """What `last.json` holds for the next appraisal of this host, None if nothing was proven."""
    if epoch is None:
        return None
    state: dict[str, object] = {
        "ak_name": epoch.ak_name.hex(),
        "clock_ms": epoch.clock.clock_ms,
        "reset_count": epoch.clock.reset_count,
        "restart_count": epoch.clock.restart_count,
        "boot_id": epoch.boot_id.hex(),
        "revision": epoch.revision,
    }
    if checkpoint is not None:
        state["ima"] = {
            "offset": checkpoint.offset,
            "entries": checkpoint.entries,
            "values": {bank: value.hex() for bank, value in checkpoint.values.items()},
            "reference": checkpoint.reference,
        }
    return state


def _certificates(path: Path) -> list[bytes]:
    content = read_bounded(path, 1 << 20)
    return _of(path, lambda: certificates_in(content))


def _optional(path: Path, most_bytes: int) -> bytes | None:
    return read_bounded(path, most_bytes) if path.exists() else None


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if len(files) > _MOST_FILES:
        raise EvidenceError(f"more than {_MOST_FILES} files", subject=str(folder))
    return files


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty if there is no file."""
    content = _optional(path, 1 << 20)
    if content is None:
        return {}
    value = _of(path, lambda: json.loads(content))
    if not isinstance(value, dict):
        raise EvidenceError("is no JSON object", subject=str(path))
    return value


def _of(path: Path, step: Callable[[], Answer]) -> Answer:
    """Errors get the file's name."""
    try:
        return step()
    except EvidenceError as error:
        error.subject = error.subject or str(path)
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"cannot be read: {type(error).__name__}: {str(error)[:80]}", subject=str(path)) from error
