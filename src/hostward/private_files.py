"""Files that hold secrets or state: whole or absent after a crash, and readable by their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from hostward.errors import StoreError


def make_private_directory(path: Path) -> None:
    """Create ``path`` with mode 0700, or refuse one that others can enter."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise StoreError(f"cannot be made: {error.strerror}", subject=str(path)) from error
    if mode & 0o077:
        raise StoreError(
            f"others can enter it (mode {mode:04o}), and it is to hold keys",
            subject=str(path),
            hint=f"chmod 700 {path}",
        )


def write_private_file(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically and durably: after a crash it holds the old or the new bytes, never a part."""
    stage_private_file(path, content)
    place_private_file(path)


def stage_private_file(path: Path, content: bytes) -> None:
    """Write what ``path`` is to hold beside it, durably; ``place_private_file`` puts it there."""
    try:
        descriptor = os.open(_staged(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", subject=str(path)) from error


def place_private_file(path: Path) -> None:
    """Replace ``path`` by what was staged for it, atomically and durably."""
    try:
        _staged(path).replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # else the rename itself can be lost with the power
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", subject=str(path)) from error


def _staged(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
