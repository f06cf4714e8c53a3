"""ASN.1 by tag, length and value, for certificates that are not quite DER.

TPM makers have burnt certificates with unsorted sets, needlessly long lengths and padding behind the end (an NV index has a
fixed size). A strict parser refuses them whole; this one reads structure alone. What was signed is taken byte by byte as it
came, so leniency here cannot change what a signature covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hostward.errors import EvidenceError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
SEQUENCE, SET = 0x30, 0x31
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
_MOST_DEPTH_BYTES = 4  # of a length


@dataclass(frozen=True, slots=True)
class Element:
    """One value; ``whole`` are its bytes with tag and length."""

    tag: int
    body: bytes
    whole: bytes
    offset: int

    def children(self) -> Iterator[Element]:
        """What a constructed value holds, in order. Raises EvidenceError."""
        base = self.offset + len(self.whole) - len(self.body)
        offset = 0
        while offset < len(self.body):
            child, offset = read_element(self.body, offset, base)
            yield child

    def expect(self, tag: int, what: str) -> Element:
        """Itself if it has this tag. Raises EvidenceError."""
        if self.tag != tag:
            raise EvidenceError(f"{what} has the tag {self.tag:#04x}, not {tag:#04x}", offset=self.offset)
        return self


def read_element(data: bytes, offset: int = 0, base: int = 0) -> tuple[Element, int]:
    """The element at ``offset`` and where the next begins. Raises EvidenceError."""
    start = offset
    if len(data) - offset < 2:
        raise EvidenceError("a value is cut off", offset=base + start)
    tag, size = data[offset], data[offset + 1]
    offset += 2
    if tag & 0x1F == 0x1F:
        raise EvidenceError("a tag of several bytes", offset=base + start)
    if size & 0x80:
        count = size & 0x7F
        if not 0 < count <= _MOST_DEPTH_BYTES or len(data) - offset < count:
            raise EvidenceError("a length that cannot be read", offset=base + start)
        size = int.from_bytes(data[offset : offset + count], "big")
        offset += count
    if size > len(data) - offset:
        raise EvidenceError(f"a value of {size} bytes, {len(data) - offset} are left", offset=base + start)
    end = offset + size
    return Element(tag, data[offset:end], data[start:end], base + start), end


def oid_text(body: bytes, offset: int) -> str:
    """An object identifier in dots. Raises EvidenceError."""
    if not body or body[-1] & 0x80 or len(body) > 64:
        raise EvidenceError("an object identifier that cannot be read", offset=offset)
    numbers: list[int] = []
    value = 0
    for byte in body:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
