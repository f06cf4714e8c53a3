"""The last slice that this host enforced, on disk: what it starts with when no controller is there to ask."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hostward.errors import StoreError
from hostward.model.slice import HostSlice
from hostward.policy import decode_slice, encode_slice
from hostward.private_files import place_private_file, stage_private_file

LAST_GOOD_FILE = "last-good.slice"
_MAGIC = b"hostward slice 2\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


def stage_last_good(directory: Path, slice_: HostSlice) -> None:
    """Write ``slice_`` beside the last good one, durably: it takes its place by ``keep_staged``, once it is good."""
    content = encode_slice(slice_)
    stage_private_file(directory / LAST_GOOD_FILE, _MAGIC + hashlib.sha256(content).digest() + content)


def keep_staged(directory: Path) -> None:
    """Make the staged slice the last good one, atomically and durably."""
    place_private_file(directory / LAST_GOOD_FILE)


def load_last_good(directory: Path) -> HostSlice | None:
    """The kept slice, or None if there is none. Raises StoreError if the file is not exactly what was written."""
    path = directory / LAST_GOOD_FILE
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", subject=str(path)) from error
    digest, content = whole[len(_MAGIC) :][:_DIGEST_BYTES], whole[len(_MAGIC) + _DIGEST_BYTES :]
    if not whole.startswith(_MAGIC) or hashlib.sha256(content).digest() != digest:
        raise StoreError(
            "the last good slice is damaged and is not used",
            subject=str(path),
            hint="what is attached keeps deciding; the controller sends the slice anew",
        )
    try:
        return decode_slice(content)
    except msgspec.MsgspecError as error:
        raise StoreError(f"written by another version: {error}", subject=str(path)) from error
