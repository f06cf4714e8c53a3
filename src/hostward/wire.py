"""Reading messages that others wrote: whatever is wrong with the bytes is one kind of error."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

_T = TypeVar("_T")


class Reader(Generic[_T]):
    """Decodes MessagePack, or JSON, into one type (or a union of tagged ones).

    msgspec raises UnicodeDecodeError for text that is not UTF-8, which is no MsgspecError: who reads from a stranger and
    catches only that would end by it.
    """

    def __init__(self, kind: Any, *, json: bool = False) -> None:  # noqa: ANN401 (a type, or a union of types)
        self._decode = msgspec.json.Decoder(kind).decode if json else msgspec.msgpack.Decoder(kind).decode

    def decode(self, data: bytes) -> _T:
        """The message. Raises msgspec.MsgspecError."""
        try:
            read: _T = self._decode(data)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"text that is not UTF-8: {error.reason}") from error
        return read
