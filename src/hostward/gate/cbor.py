"""The part of CBOR that grants and pulses are written in: deterministically encoded, or refused (RFC 8949, section 4.2.1).

Integers, byte strings, text, arrays, maps with ascending keys and tags; every length definite, every head the shortest.
So each value has one encoding, and what is read is what was signed. Nothing else has a place in a message to a gate:
the decoder is small because the gate is part of the trusted base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hostward.errors import LeaseError

BYTES_MAX = 1_024
_DEPTH_MAX = 4
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_HEADS = ((24, 1), (25, 2), (26, 4), (27, 8))


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value behind a tag (RFC 8949, section 3.4)."""

    tag: int
    value: Value


Value = int | bytes | str | Sequence["Value"] | Mapping[int, "Value"] | Tagged


def encode(value: Value) -> bytes:
    """The one encoding of a value. Raises TypeError for what has none here: floats, booleans, maps with other keys."""
    match value:
        case bool() | float() | None:
            raise TypeError(f"{value!r} has no place in a grant or a pulse")
        case int():
            return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case Tagged():
            return _head(_TAG, value.tag) + encode(value.value)
        case Mapping():
            entries = sorted((encode(key), encode(each)) for key, each in value.items())
            return _head(_MAP, len(entries)) + b"".join(key + each for key, each in entries)
        case Sequence():
            return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
    raise TypeError(f"{value!r} has no place in a grant or a pulse")


def decode(data: bytes) -> Value:
    """The value of a whole message. Raises LeaseError for anything that ``encode`` would not have written."""
    if len(data) > BYTES_MAX:
        raise LeaseError(f"a message of {len(data)} bytes, and {BYTES_MAX} are the limit")
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise LeaseError(f"{len(data) - end} bytes too many at offset {end}")
    return value


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes((kind << 5 | number,))
    for code, size in _HEADS:
        if number < 1 << 8 * size:
            return bytes((kind << 5 | code,)) + number.to_bytes(size, "big")
    raise TypeError(f"{number} does not fit into 64 bits")


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if depth > _DEPTH_MAX:
        raise LeaseError(f"nested more than {_DEPTH_MAX} deep at offset {at}")
    kind, number, end = _decode_head(data, at)
    match kind:
        case 0:
            return number, end
        case 1:
            return -1 - number, end
        case 2 | 3:
            if number > len(data) - end:
                raise LeaseError(f"a string of {number} bytes at offset {at} ends beyond the message")
            text = data[end : end + number]
            if kind == _BYTES:
                return text, end + number
            try:
                return text.decode(), end + number
            except UnicodeDecodeError:
                raise LeaseError(f"no UTF-8 in the text at offset {at}") from None
        case 4:
            return _decode_array(data, end, number, depth)
        case 5:
            return _decode_map(data, end, number, depth)
        case 6:
            value, end = _decode(data, end, depth + 1)
            return Tagged(number, value), end
    raise LeaseError(f"a simple value or a float at offset {at}")


def _decode_head(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise LeaseError(f"the message ends at offset {at}, in the middle of a value")
    kind, code = data[at] >> 5, data[at] & 0x1F
    if code < 24:
        return kind, code, at + 1
    size = dict(_HEADS).get(code)
    if size is None:
        raise LeaseError(f"an indefinite or reserved length at offset {at}")
    number = int.from_bytes(data[at + 1 : at + 1 + size], "big")
    if at + 1 + size > len(data):
        raise LeaseError(f"the message ends at offset {len(data)}, in the middle of a length")
    if number < 24 or (size > 1 and number < 1 << 4 * size):
        raise LeaseError(f"a length at offset {at} that is not the shortest")
    return kind, number, at + 1 + size


def _decode_array(data: bytes, at: int, count: int, depth: int) -> tuple[Value, int]:
    values: list[Value] = []
    for _ in range(_bounded(count, data, at)):
        value, at = _decode(data, at, depth + 1)
        values.append(value)
    return values, at


def _decode_map(data: bytes, at: int, count: int, depth: int) -> tuple[Value, int]:
    entries: dict[int, Value] = {}
    before = b""
    for _ in range(_bounded(count, data, at)):
        begun = at
        key, at = _decode(data, at, depth + 1)
        if not isinstance(key, int):
            raise LeaseError(f"a key at offset {begun} that is no integer")
        if data[begun:at] <= before:
            raise LeaseError(f"a key at offset {begun} that comes twice or out of order")
        before = data[begun:at]
        entries[key], at = _decode(data, at, depth + 1)
    return entries, at


def _bounded(count: int, data: bytes, at: int) -> int:
    # Each value takes a byte at least, so a larger count is a lie, and is not looped over.
    if count > len(data) - at:
        raise LeaseError(f"{count} values announced at offset {at}, and {len(data) - at} bytes follow")
    return count
