"""`hostward controller backup` and `restore`: what they say to the operator; the work is ``controller.recovery``'s."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from hostward.cli.configuration import ControllerConfig, read_config
from hostward.cli.daemons import locked
from hostward.cli.output import message
from hostward.controller.grant_key import open_grant_key, public_hex
from hostward.controller.recovery import Existing, back_up, restore
from hostward.errors import UsageError


def back_up_controller(target: Path, config: Path | None, state: Path | None) -> None:
    """Write a backup."""
    manifest = back_up(_state(config, state), target, datetime.now(UTC))
    message(f"revision {manifest.revision} is backed up in {target}; it holds the CA's key: keep it as you keep that")


def show_grant_key(config: Path | None, state: Path | None) -> None:
    """Print what a gate's `controller_keys` take."""
    folder = _state(config, state)
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise UsageError("another user owns the state", subject=str(folder), hint="run it as the controller's user")
    print(public_hex(open_grant_key(folder)))


def restore_controller(
    backup: Path, config: Path | None, state: Path | None, *, force: bool, revision_at_least: int
) -> None:
    """Restore a backup, unless a controller runs on the state."""
    folder = _state(config, state)
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise UsageError(
            "another user owns the state, and could not read what is restored",
            subject=str(folder),
            hint=f"as the controller's user: setpriv --reuid {folder.owner()} --regid {folder.group()} --init-groups …",
        )
    with contextlib.ExitStack() as held:
        held.enter_context(locked(folder))
        if (folder.parent / "lock").exists():  # of `hostward up`, whose folder holds the controller's
            held.enter_context(locked(folder.parent))
        existing = Existing.REPLACE if force else Existing.KEEP
        restored = restore(backup, folder, datetime.now(UTC), existing, revision_at_least)
    manifest = restored.backup
    message(
        f"the backup of revision {manifest.revision}, made {manifest.time:%Y-%m-%d %H:%M} UTC, is restored as revision "
        f"{restored.revision}; hosts go forward to it when the controller starts"
    )
    message(
        "what was changed since the backup is not known: compare `hostward get endpoints` and `hostward get hosts`, evict "
        "again what was evicted, and make new join tokens"
    )


def _state(config: Path | None, state: Path | None) -> Path:
    if config is not None and state is not None:
        raise UsageError("both --config and --state say where the state is", hint="give one of them")
    if state is not None:
        return state
    return ControllerConfig().state if config is None else read_config(config, ControllerConfig).state
