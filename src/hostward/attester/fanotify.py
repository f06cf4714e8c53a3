"""Changes of files by fanotify(7), told by file handles: works without CAP_SYS_ADMIN since Linux 5.13.

A mark lies on the inode, so that a write through another name or another mount is seen; another on the folder sees what is
put in the file's place. Nothing here opens what an event speaks of: handles are compared with those of what is watched.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
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

_CLOEXEC, _NONBLOCK, _REPORT_FID, _REPORT_DFID_NAME = 0x1, 0x2, 0x200, 0xC00
_MARK_ADD, _EVENT_ON_CHILD, _ONDIR = 0x1, 0x08000000, 0x40000000
_AT_FDCWD, _AT_SYMLINK_FOLLOW, _AT_HANDLE_FID = -100, 0x400, 0x200
_VERSION = 3
_METADATA = struct.Struct("=IBBHQii")
_INFO = struct.Struct("=BBH8s")  # header and fsid
_HANDLE = struct.Struct("=Ii")
_FID, _DFID_NAME, _DFID = 1, 2, 3
_MOST_HANDLE = 128

_Identity = tuple[bytes, int, bytes]  # file system, type of handle, handle


class Fanotify:
    """A group of its own. Raises OSError where the kernel or a file system refuses."""

    def __init__(self, files: WatchedFiles) -> None:
        self._files = files
        self._folders: dict[_Identity, Path] = {}
        self._inodes: dict[_Identity, list[Path]] = {}
        flags = _CLOEXEC | _NONBLOCK | _REPORT_FID | _REPORT_DFID_NAME
        self.descriptor = LIBC.fanotify_init(ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY | os.O_CLOEXEC))
        if self.descriptor < 0:
            raise last_error("fanotify_init")
        try:
            for folder in files.folders:
                self._mark(folder, OF_FOLDER | _EVENT_ON_CHILD | _ONDIR)
                self._folders[_identity(folder)] = folder
            self._mark_files()
        except BaseException:
            os.close(self.descriptor)
            raise

    def read(self) -> list[Path]:
        """What changed, each path once."""
        changed: dict[Path, None] = {}
        renamed = False
        while data := drain(self.descriptor):
            for mask, records in _events(data):
                if mask & QUEUE_OVERFLOW:
                    changed[EVERYTHING] = None
                renamed = renamed or bool(mask & (RENAMING | QUEUE_OVERFLOW))
                for kind, identity, name in records:
                    changed |= dict.fromkeys(self._paths(mask, kind, identity, name))
        if renamed:
            self._mark_files()  # before it is told: whoever measures the new file now misses no later write
        return list(changed)

    def _paths(self, mask: int, kind: int, identity: _Identity, name: bytes) -> Iterator[Path]:
        yield from self._inodes.get(identity, ())
        folder = self._folders.get(identity)
        if folder is None:
            return
        if kind == _DFID_NAME and name != b".":
            yield from self._files.named(folder, name)
        elif mask & (DELETE_SELF | MOVE_SELF):
            yield from self._files.within(folder)

    def _mark_files(self) -> None:
        """Mark what bears the names now. A name without a file is watched through its folder."""
        self._inodes = {}
        for path in self._files.paths:
            try:
                self._mark(path, OF_FILE)
                self._inodes.setdefault(_identity(path), []).append(path)
            except (FileNotFoundError, NotADirectoryError):
                continue

    def _mark(self, path: Path, mask: int) -> None:
        call = LIBC.fanotify_mark
        if call(self.descriptor, ctypes.c_uint(_MARK_ADD), ctypes.c_uint64(mask), _AT_FDCWD, os.fsencode(path)) < 0:
            raise last_error(f"fanotify_mark of {path}")


def _identity(path: Path) -> _Identity:
    """What events call this inode (name_to_handle_at(2))."""
    buffer = ctypes.create_string_buffer(_HANDLE.size + _MOST_HANDLE)
    mount = ctypes.c_int()
    # Handles that only identify are had from more file systems, since Linux 6.5.
    for flags in (_AT_SYMLINK_FOLLOW | _AT_HANDLE_FID, _AT_SYMLINK_FOLLOW):
        _HANDLE.pack_into(buffer, 0, _MOST_HANDLE, 0)
        if not LIBC.name_to_handle_at(_AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), flags):
            size, kind = _HANDLE.unpack_from(buffer)
            handle = buffer.raw[_HANDLE.size : _HANDLE.size + size]
            return os.statvfs(path).f_fsid.to_bytes(8, "little"), kind, handle
    raise last_error(f"name_to_handle_at of {path}")


def _events(data: bytes) -> Iterator[tuple[int, list[tuple[int, _Identity, bytes]]]]:
    """Masks, each with its records: kind, whose handle, and the name behind it."""
    at = 0
    while at < len(data):
        size, version, _, head, mask, _, _ = _METADATA.unpack_from(data, at)
        if version != _VERSION:
            raise OSError(f"fanotify speaks version {version}, not {_VERSION}")
        yield mask, list(_records(data[at + head : at + size]))
        at += size


def _records(data: bytes) -> Iterator[tuple[int, _Identity, bytes]]:
    at = 0
    while at < len(data):
        kind, _, size, file_system = _INFO.unpack_from(data, at)
        if kind in (_FID, _DFID_NAME, _DFID):
            start = at + _INFO.size
            length, handle_kind = _HANDLE.unpack_from(data, start)
            start += _HANDLE.size
            name = data[start + length : at + size].partition(b"\0")[0]
            yield kind, (file_system, handle_kind, data[start : start + length]), name
        at += size
