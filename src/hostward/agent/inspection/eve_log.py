"""The file of events: whole lines, begun anew when it is long, a bounded number of older ones kept beside it."""

from __future__ import annotations

import io
import os
from pathlib import Path


class EveLog:
    """``path``, and ``path.1`` (the newest) to ``path.keep``. Not thread-safe."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        """Raises OSError if the file cannot be written."""
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        self._len = self._file.tell()
        self._partial = b""

    def _open(self) -> io.FileIO:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        return io.FileIO(handle, "ab")

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of a stream of lines; what is not yet a whole line waits. Raises OSError."""
        data = self._partial + chunk
        end = data.rfind(b"\n") + 1
        whole, self._partial = data[:end], data[end:]
        if not whole:
            return
        if self._len and self._len + len(whole) > self._max_bytes:
            self._rotate()
        self._file.write(whole)
        self._len += len(whole)

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        if self._keep:
            self._path.replace(self._numbered(1))
        else:
            self._path.unlink()
        self._file = self._open()
        self._len = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """Close it; a line that was never finished is not written."""
        self._file.close()
