"""Backup and restore of a controller: what a backup holds, and how its content comes back under a larger number.

Hosts refuse every revision that is not larger than the one they enforce (design invariant 12), so a restore never goes
back: it commits the backup's content as a new revision, beyond all that the lost history can have reached
(docs/adr/0008-restore-goes-forward.md). It must not speak to hosts; the next start of the controller does.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import hostward
from hostward.controller.authority import AUTHORITY_FILE, open_authority
from hostward.controller.grant_key import GRANT_KEY_FILE, RESULT_KEY_FILE
from hostward.errors import ConflictError, StoreError
from hostward.policy import Numbers
from hostward.private_files import make_private_directory
from hostward.store.backup import Manifest, check_database, copy_database, read_backup, write_backup
from hostward.store.records import Change, HostState
from hostward.store.sqlite import SCHEMA_VERSION, SqliteStore

DATABASE_FILE = "controller.db"
# What a lost part of history may have used up: at one change a second, twelve days of them. A host beyond it is refused a
# channel and named with the number that it needs; 4,000 restores fit into the 32 bits of identities.
LOST_MAX = 1 << 20

# A complete restored state under this name is the restore: whoever finds it puts it in place.
_RESTORED = "restored"
_FILES = (DATABASE_FILE, AUTHORITY_FILE)
# Where hosts are attested: without the first, no gate would believe the restored controller.
_MORE = (GRANT_KEY_FILE, RESULT_KEY_FILE)
_OF_THE_OLD = (f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm", f"{DATABASE_FILE}-journal")


class Existing(Enum):
    """What a restore does with a state that is there already."""

    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Restored:
    """The backup's own revision, and the one that stands for its content from now on."""

    backup: Manifest
    revision: int


def back_up(state: Path, target: Path, now: datetime) -> Manifest:
    """Write the state to ``target``, whether or not a controller runs on it. Raises StoreError or ConflictError."""
    if target.exists():
        raise ConflictError("there is a file of this name", subject=str(target), hint="choose another name")
    if not target.parent.is_dir():
        raise StoreError("its folder does not exist", subject=str(target), hint=f"mkdir -p {target.parent}")
    database = state / DATABASE_FILE
    if not database.exists() or not (state / AUTHORITY_FILE).exists():
        raise StoreError("there is no controller's state here", subject=str(state), hint="give --config or --state")
    # Beside the state and not in /tmp: the copy is as secret, and as large, as the original.
    with TemporaryDirectory(dir=state, prefix=".backup-") as folder:
        copy = Path(folder, DATABASE_FILE)
        copy_database(database, copy)
        schema, revision = check_database(copy, str(database))
        manifest = Manifest(schema, revision, now, hostward.__version__)
        more = {name: state / name for name in _MORE if (state / name).exists()}
        write_backup(target, manifest, {DATABASE_FILE: copy, AUTHORITY_FILE: state / AUTHORITY_FILE, **more})
    return manifest


def restore(backup: Path, state: Path, now: datetime, existing: Existing, at_least: int = 0) -> Restored:
    """Bring a backup's content back as a new revision, ``at_least`` or larger. No controller may run on ``state``.

    Whatever fails before the whole restored state is on the disk leaves everything as it was; from then on the restore is
    done, and an interruption is made up for by the next start.
    """
    make_private_directory(state)
    complete_restore(state)
    present = [name for name in _FILES if (state / name).exists()]
    if present and existing is Existing.KEEP:
        raise ConflictError(
            f"there is a controller's state already: {', '.join(present)}",
            subject=str(state),
            hint="back it up, then repeat with --force to replace it",
        )
    with TemporaryDirectory(dir=state, prefix=".restore-") as folder:
        staged = Path(folder, _RESTORED)
        staged.mkdir(mode=0o700)
        manifest = read_backup(backup, staged, _FILES, _MORE)
        if manifest.schema > SCHEMA_VERSION:
            raise StoreError(
                f"its schema is version {manifest.schema}, this program knows up to {SCHEMA_VERSION}",
                subject=str(backup),
                hint=f"restore it by hostward {manifest.program} or later",
            )
        check_database(staged / DATABASE_FILE, f"{backup}: {DATABASE_FILE}")
        open_authority(staged, now)
        revision = max(max(manifest.revision, _head_of(state)) + LOST_MAX, at_least)
        _go_forward(staged / DATABASE_FILE, manifest, revision, now)
        _sync_folder(staged)
        staged.rename(state / _RESTORED)
    _sync_folder(state)
    complete_restore(state)
    return Restored(manifest, revision)


def complete_restore(state: Path) -> None:
    """Put a restored state in place, if one waits. Every step may be the last before a crash: the next call goes on."""
    restored = state / _RESTORED
    if not restored.is_dir():
        return
    try:
        if (restored / DATABASE_FILE).exists():
            for name in _OF_THE_OLD:  # else SQLite would play the old database's log into the new one
                (state / name).unlink(missing_ok=True)
            _sync_folder(state)
        for name in (*_FILES, *_MORE):
            if (restored / name).exists():
                (restored / name).replace(state / name)
        _sync_folder(state)
        shutil.rmtree(restored)
        _sync_folder(state)
    except OSError as error:
        raise StoreError(
            f"the restored state cannot be put in place: {error.strerror}",
            subject=str(restored),
            hint="mend that and start again: the restore goes on where it stopped",
        ) from error


def _go_forward(database: Path, manifest: Manifest, revision: int, now: datetime) -> None:
    """Commit the backup's content as ``revision``, without what the lost part of history may have changed."""
    store = SqliteStore(database)
    try:
        state = store.load()
        kept = Numbers.from_plain(json.loads(state.numbers)) if state.numbers else Numbers.empty()
        change = Change(
            time=now,
            author="hostward",
            summary=f"restored from the backup of revision {manifest.revision}, made {manifest.time.isoformat()}",
            # Certificates are renewed every few hours: the backup's serials are not those that hosts have.
            hosts={
                name: replace(record, serials=())
                for name, record in state.hosts.items()
                if record.state is not HostState.EVICTED
            },
            numbers=json.dumps(kept.beyond(LOST_MAX).to_plain()).encode(),
        )
        store.go_forward(revision, change)
    finally:
        store.close()  # the last connection: SQLite leaves no log behind


def _head_of(state: Path) -> int:
    """The newest revision of the state that is replaced: where that can be read, nothing of it is guessed."""
    try:
        copied = state / DATABASE_FILE
        return check_database(copied, str(copied))[1] if copied.exists() else 0
    except StoreError:
        return 0


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
