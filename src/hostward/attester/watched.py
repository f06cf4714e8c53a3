"""Which names in which folders stand for the files that are watched, and what the kernel's two ways have in common."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

# In place of a path: events were lost, so any of the files may have changed.
EVERYTHING: Final = Path("all")

# The same numbers in fanotify(7) and inotify(7).
MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
QUEUE_OVERFLOW = 0x4000
OF_FILE = MODIFY | ATTRIB | CLOSE_WRITE | DELETE_SELF | MOVE_SELF
OF_FOLDER = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
# After these another file may bear the name.
RENAMING = MOVED_FROM | MOVED_TO | CREATE | DELETE
READ_BYTES = 64 << 10
LIBC = ctypes.CDLL(None, use_errno=True)


class Source(Protocol):
    """Where changes come from; ``descriptor`` is readable when there are some."""

    descriptor: int

    def read(self) -> list[Path]:
        """What changed since, each path once; empty if nothing did. Does not wait."""


class WatchedFiles:
    """Files by folder and name. One that is a symbolic link is watched where it lies and where it leads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.folders: dict[Path, dict[bytes, list[Path]]] = {}
        for path in self.paths:
            for place in dict.fromkeys((path.absolute(), path.resolve())):
                of = self.folders.setdefault(place.parent, {}).setdefault(os.fsencode(place.name), [])
                of.append(path)

    def named(self, folder: Path, name: bytes) -> Iterable[Path]:
        """The watched paths that a name in a folder is of."""
        return self.folders[folder].get(name, ())

    def within(self, folder: Path) -> list[Path]:
        """All that are watched in a folder, which is itself gone or moved."""
        return [path for of in self.folders[folder].values() for path in of]


def drain(descriptor: int) -> bytes:
    """The next events, whole; empty if there are none."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return b""


def last_error(what: str) -> OSError:
    """What the C library's last call through ctypes met with."""
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
