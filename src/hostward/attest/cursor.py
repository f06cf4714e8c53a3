"""A place in hostile bytes: every read is checked against the end, and an error names the offset.

TPM structures are big-endian, logs little-endian; a cursor reads in the one order that it was made for.
"""

from __future__ import annotations

from typing import Literal

from hostward.errors import EvidenceError


class Cursor:
    """Reads forward through ``data``; ``base`` is added to offsets in errors, where the data is a part of something."""

    __slots__ = ("_base", "_data", "_order", "offset")

    def __init__(self, data: bytes, order: Literal["big", "little"], *, base: int = 0) -> None:
        self._data = data
        self._order = order
        self._base = base
        self.offset = 0

    @property
    def place(self) -> int:
        """The offset in what the data is a part of."""
        return self._base + self.offset

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self.offset

    def take(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes. Raises EvidenceError."""
        if size > self.left:
            raise self.error(f"{what} needs {size} bytes, {self.left} are left")
        start = self.offset
        self.offset = start + size
        return self._data[start : self.offset]

    def number(self, size: int, what: str) -> int:
        """An unsigned number of so many bytes. Raises EvidenceError."""
        return int.from_bytes(self.take(size, what), self._order)

    def u8(self, what: str) -> int:
        """One byte."""
        return self.number(1, what)

    def u16(self, what: str) -> int:
        """Two bytes."""
        return self.number(2, what)

    def u32(self, what: str) -> int:
        """Four bytes."""
        return self.number(4, what)

    def u64(self, what: str) -> int:
        """Eight bytes."""
        return self.number(8, what)

    def sized(self, what: str, most: int) -> bytes:
        """A TPM2B: sixteen bits of length, then as many bytes, of which there may be ``most``."""
        if self.left < 2:
            raise self.error(f"length of {what} needs 2 bytes, {self.left} are left")
        size = int.from_bytes(self._data[self.offset : self.offset + 2], self._order)
        self.offset += 2
        if size > most:
            raise self.error(f"{what} has {size} bytes, more than {most}")
        return self.take(size, what)

    def finish(self, what: str) -> None:
        """Refuse what follows the end of a structure. Raises EvidenceError."""
        if self.left:
            raise self.error(f"{self.left} bytes follow {what}")

    def error(self, what: str) -> EvidenceError:
        """The documented error, here."""
        return EvidenceError(what, offset=self.place)
