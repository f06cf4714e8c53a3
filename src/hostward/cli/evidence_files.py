"""A folder of stored evidence: which file is what (docs/reference/evidence.md). A host may have filled it.

What a host sent lies in the folder itself. What the verifier trusted lies under `verifier/`, or where `--trust` says; it is
never taken from a host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostward.attest import certificate, ima
from hostward.attest.appraisal import Evidence, Trust
from hostward.attest.binding import Binding
from hostward.attest.epoch import Epoch
from hostward.attest.eventlog import log
from hostward.attest.ima import Checkpoint
from hostward.attest.pem import certificates_in
from hostward.attest.quote import Clock
from hostward.controller.attestation.trust_files import (
    MOST_SMALL,
    certificates_of,
    files_in,
    json_in,
    named,
    optional,
    read_bounded,
    read_trust_folder,
)
from hostward.errors import HostwardError

_KEYS = ("tls_key", "pulse_key", "encryption_key", "boot_id")


def read_evidence(folder: Path) -> Evidence:
    """What a host sent. Raises HostwardError, naming the file."""
    if not folder.is_dir():
        raise HostwardError("is no folder of evidence", subject=str(folder), hint="see docs/reference/evidence.md")
    leaf = optional(folder / "ek.crt", certificate.MOST_BYTES * 2)
    chain = [data for path in files_in(folder / "ek-chain") for data in certificates_of(path)]
    found = [] if leaf is None else named(folder / "ek.crt", lambda: certificates_in(leaf))
    return Evidence(
        quote=read_bounded(folder / "quote.msg", MOST_SMALL),
        signature=read_bounded(folder / "quote.sig", MOST_SMALL),
        ak=read_bounded(folder / "ak.pub", MOST_SMALL),
        event_log=read_bounded(folder / "eventlog", log.MOST_BYTES),
        ima=optional(folder / "ima", 2 * ima.MOST_BYTES) or b"",
        ek=optional(folder / "ek.pub", MOST_SMALL) or b"",
        ek_certificate=found[0] if found else None,
        intermediates=(*found[1:], *chain),
        binding=_binding(folder / "binding.json"),
    )


def read_trust(folder: Path, without: frozenset[str]) -> Trust:
    """What the verifier knew. Raises HostwardError, naming the file."""
    known = read_trust_folder(folder)
    enrolled = json_in(folder / "enrolled.json")
    state = json_in(folder / "last.json")
    return Trust(
        roots=known.roots,
        inventory=known.inventory,
        reference=known.reference,
        enrolled_ak=named(folder / "enrolled.json", lambda: bytes.fromhex(enrolled["ak_name"])) if enrolled else None,
        enrolled_ek=str(enrolled.get("ek", "")),
        last=named(folder / "last.json", lambda: _epoch(state)) if state else None,
        checkpoint=named(folder / "last.json", lambda: _checkpoint(state)) if state else Checkpoint(),
        without=without,
    )


def _binding(path: Path) -> Binding | None:
    if not path.exists():
        return None
    value = json_in(path)

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

    return named(path, read)


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
