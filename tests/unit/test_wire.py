"""Whatever is wrong with a message is a MsgspecError: a reader that catches it is never ended by a stranger's bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hostward.agent.messages import decode_from_agent, decode_from_controller
from hostward.gate.channel_messages import decode_from_gate, decode_request
from hostward.sentinel import messages as sentinel
from hostward.wire import Reader

READERS = (
    decode_from_agent,
    decode_from_controller,
    decode_request.decode,
    decode_from_gate.decode,
    sentinel.decode_request.decode,
    sentinel.decode_answer.decode,
    Reader[str](str).decode,
)


@given(data=st.binary(max_size=40))
@example(b"\x81\xa4kind\xa1\xff")
@example(b"\x81\xa1\xff\x00")
@example(b"\xa1\xff")
def test_garbage_is_one_kind_of_error(data: bytes) -> None:
    for read in READERS:
        try:
            read(data)
        except msgspec.MsgspecError:
            continue


def test_without_it_text_that_is_none_is_another_error() -> None:
    """The negative control."""
    with pytest.raises(UnicodeDecodeError):
        msgspec.msgpack.Decoder(str).decode(b"\xa1\xff")
    with pytest.raises(msgspec.DecodeError, match="not UTF-8"):
        Reader[str](str).decode(b"\xa1\xff")


def test_messages_are_read() -> None:
    assert Reader[int](int).decode(b"\x05") == 5
    assert Reader[int](int, json=True).decode(b"5") == 5
