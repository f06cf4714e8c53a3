"""What agent and sentinel say to each other, in bytes."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from hostward.errors import ChannelError
from hostward.sentinel.messages import (
    MESSAGE_LIMIT_BYTES,
    Alive,
    AskKey,
    Attested,
    Key,
    Pending,
    Standing,
    decode_answer,
    decode_request,
    encode,
    read_frame,
)

DIGESTS = {"acme/a": b"d" * 32}


def test_what_was_said_is_what_is_read() -> None:
    for request in (AskKey(), Attested(b"h" * 32, 1, DIGESTS, {}), Pending({}, DIGESTS), Alive()):
        assert decode_request.decode(encode(request)) == request
    for answer in (Key(b"k" * 32), Standing("")):
        assert decode_answer.decode(encode(answer)) == answer


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "attested", "host": b"h", "epoch": 1, "programs": {}, "policies": {}},
        {"kind": "attested", "host": b"h" * 32, "epoch": -1, "programs": {}, "policies": {}},
        {"kind": "pending", "programs": {"a": b"short"}, "policies": {}},
        {"kind": "pending", "programs": {"a" * 300: b"d" * 32}, "policies": {}},
        {"kind": "alive", "for": 1},
        {"kind": "key", "key": b"k" * 32},
    ],
)
def test_what_is_no_request_is_not_read(bad: object) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_request.decode(msgspec.msgpack.encode(bad))


def test_a_frame_is_bounded_before_it_is_read() -> None:
    async def read(data: bytes) -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_frame(reader)

    assert asyncio.run(read((3).to_bytes(4, "big") + b"abc")) == b"abc"
    for bad in ((MESSAGE_LIMIT_BYTES + 1).to_bytes(4, "big"), b"\0\0", (9).to_bytes(4, "big") + os.urandom(3)):
        with pytest.raises(ChannelError):
            asyncio.run(read(bad))
