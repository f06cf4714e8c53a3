"""Changes of files by inotify(7), for file systems and kernels that refuse fanotify."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from hostward.attester.watched import (
    DELETE_SELF,
    EVERYTHING,
    LIBC,
    MOVE_SELF,
    OF_FILE,
    OF_FOLDER,
    QUEUE_OVERFLOW,
    RENAMING,
    WatchedFiles,
    drain,
    last_error,
)

_EVENT = struct.Struct("=iIII")
_MASK_ADD = 0x20000000


class Inotify:
    """An instance of its own. Raises OSError."""

    def __init__(self, files: WatchedFiles) -> None:
        self._files = files
        self._folders: dict[int, Path] = {}
        self._inodes: dict[int, list[Path]] = {}
        self.descriptor = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.descriptor < 0:
            raise last_error("inotify_init1")
        try:
            self._folders = {self._watch(folder, OF_FOLDER): folder for folder in files.folders}
            self._watch_files()
        except BaseException:
            os.close(self.descriptor)
            raise

    def read(self) -> list[Path]:
        """What changed, each path once."""
        changed: dict[Path, None] = {}
        renamed = False
        while data := drain(self.descriptor):
            at = 0
            while at < len(data):
                watch, mask, _, size = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = data[at : at + size].rstrip(b"\0")
                at += size
                renamed = renamed or bool(mask & (RENAMING | QUEUE_OVERFLOW))
                changed |= dict.fromkeys(self._paths(watch, mask, name))
        if renamed:
            self._watch_files()
        return list(changed)

    def _paths(self, watch: int, mask: int, name: bytes) -> list[Path]:
        if mask & QUEUE_OVERFLOW:
            return [EVERYTHING]
        found = list(self._inodes.get(watch, ()))
        folder = self._folders.get(watch)
        if folder is not None and name:
            found += self._files.named(folder, name)
        elif folder is not None and mask & (DELETE_SELF | MOVE_SELF):
            found += self._files.within(folder)
        return found

    def _watch_files(self) -> None:
        """Watch what bears the names now. A name without a file is watched through its folder."""
        self._inodes = {}
        for path in self._files.paths:
            try:
                self._inodes.setdefault(self._watch(path, OF_FILE), []).append(path)
            except (FileNotFoundError, NotADirectoryError):
                continue

    def _watch(self, path: Path, mask: int) -> int:
        # Added to what is watched of this inode: a folder may be watched as a file too.
        watch = int(LIBC.inotify_add_watch(self.descriptor, os.fsencode(path), mask | _MASK_ADD))
        if watch < 0:
            raise last_error(f"inotify_add_watch of {path}")
        return watch
