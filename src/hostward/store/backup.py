"""A backup as one file: a line that seals it, then a tar archive of a manifest and what it names.

Owns the format: `tail -n +2 BACKUP | tar -tv` lists one. It must not know what the files mean, nor where they go.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from hostward.errors import StoreError

MANIFEST = "manifest.json"
# Digest and length of all that follows; of fixed width, so that it can be written last.
_SEAL = "hostward backup 1 sha256 {digest:64} bytes {length:020}\n"
_SEAL_BYTES = len(_SEAL.format(digest="", length=0))
_SEALED = re.compile(rb"hostward backup (\d+) sha256 ([0-9a-f]{64}) bytes (\d{20})\n")
_ANOTHER_BACKUP = "nothing was changed; use another backup"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. ``schema`` and ``revision`` are the database's."""

    schema: int
    revision: int
    time: datetime
    program: str


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that others may be writing to, as of one moment between two commits. Raises StoreError."""
    if not source.exists():
        raise StoreError("there is no database", subject=str(source), hint="name the controller's state folder")
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as present,
            closing(sqlite3.connect(target)) as copy,
        ):
            present.backup(copy)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot be copied: {error}", subject=str(source)) from error
    check_database(target, str(source))


def check_database(path: Path, subject: str) -> tuple[int, int]:
    """Schema version and head of a database that is whole. Raises StoreError with what is wrong with ``subject``."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            wrong = [row[0] for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            (schema,) = db.execute("PRAGMA user_version").fetchone()
            (head,) = db.execute("SELECT coalesce(max(number), 0) FROM revisions").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"this is no controller's database: {error}", subject=subject) from error
    if wrong:
        raise StoreError(f"the database is damaged: {'; '.join(wrong)}", subject=subject)
    return schema, head


def write_backup(target: Path, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Write a sealed backup, durably, for its owner alone. Nothing may be at ``target``; a failure leaves nothing there."""
    staged = target.with_name(f".{target.name}.new")
    try:
        descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            os.fchmod(descriptor, 0o600)
            file.write(_SEAL.format(digest="", length=0).encode())
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, MANIFEST, BytesIO(msgspec.json.encode(manifest)))
                for name, path in files.items():
                    with path.open("rb") as content:
                        _add(archive, name, content)
            _seal(file)
            os.fsync(descriptor)
        os.link(staged, target)  # unlike a rename it never takes another file's place
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", subject=str(target)) from error
    finally:
        staged.unlink(missing_ok=True)


def read_backup(path: Path, into: Path, expected: Sequence[str], optional: Sequence[str] = ()) -> Manifest:
    """Check the seal and unpack the ``expected`` files, and those of ``optional`` that are there; no other may be.

    Raises StoreError with what is wrong.
    """
    try:
        with path.open("rb") as file:
            _check_seal(path, file)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                names = archive.getnames()
                more = [name for name in optional if name in names]
                if sorted(names) != sorted([MANIFEST, *expected, *more]):
                    raise StoreError(f"it holds {', '.join(names)}", subject=str(path), hint=_ANOTHER_BACKUP)
                for name in (*expected, *more):
                    _write(into / name, _content(archive, name))
                return msgspec.json.decode(_content(archive, MANIFEST).read(), type=Manifest)
    except (tarfile.TarError, msgspec.MsgspecError) as error:
        raise StoreError(f"its content is not a backup's: {error}", subject=str(path), hint=_ANOTHER_BACKUP) from error
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", subject=str(path), hint="nothing was changed") from error


def _seal(file: BinaryIO) -> None:
    file.flush()
    length = file.seek(0, os.SEEK_END) - _SEAL_BYTES
    file.seek(_SEAL_BYTES)
    digest = _digest(file)
    file.seek(0)
    file.write(_SEAL.format(digest=digest, length=length).encode())
    file.flush()


def _check_seal(path: Path, file: BinaryIO) -> None:
    sealed = _SEALED.fullmatch(file.read(_SEAL_BYTES))
    if sealed is None:
        raise StoreError(
            "this is not a backup of a controller, or its first line is damaged",
            subject=str(path),
            hint=_ANOTHER_BACKUP,
        )
    if sealed[1] != b"1":
        hint = "restore it by the version of hostward that wrote it"
        raise StoreError(f"its format is {sealed[1].decode()}, this program reads 1", subject=str(path), hint=hint)
    present = file.seek(0, os.SEEK_END) - _SEAL_BYTES
    if present != int(sealed[3]):
        raise StoreError(
            f"it is damaged: {present} bytes follow its first line, and {int(sealed[3])} were written",
            subject=str(path),
            hint=_ANOTHER_BACKUP,
        )
    file.seek(_SEAL_BYTES)
    if _digest(file) != sealed[2].decode():
        raise StoreError(
            "it is damaged: its content does not have the digest of its first line",
            subject=str(path),
            hint=_ANOTHER_BACKUP,
        )
    file.seek(_SEAL_BYTES)


def _digest(file: BinaryIO) -> str:
    """Of what is left of ``file``."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: BinaryIO) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, os.SEEK_END)
    member.mode = 0o600
    content.seek(0)
    archive.addfile(member, content)


def _content(archive: tarfile.TarFile, name: str) -> BinaryIO:
    content = archive.extractfile(name)
    if content is None:
        raise tarfile.ReadError(f"{name} is no file")
    return content  # type: ignore[return-value]


def _write(path: Path, content: BinaryIO) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while block := content.read(1 << 20):
            file.write(block)
        file.flush()
        os.fsync(descriptor)
