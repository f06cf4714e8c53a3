"""What the agent says to the sentinel: msgspec structs in msgpack over a Unix socket, each preceded by its length.

Every request has one answer, in order. Both sides import them from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import msgspec

from hostward.datapath.attached import Attached
from hostward.errors import ChannelError
from hostward.wire import Reader

# Digests and names of 4,096 endpoints are some 700 KB.
MESSAGE_LIMIT_BYTES = 2 * 1024 * 1024
_LENGTH_BYTES = 4

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Digests = Mapping[Annotated[str, msgspec.Meta(max_length=256)], _Digest]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Message(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """What every message has in common: it is a frozen struct, tagged by its name."""


class AskKey(Message, frozen=True, tag="ask-key"):
    """By which key are pulses signed? It has to go into the evidence."""


class Attested(Message, frozen=True, tag="attested"):
    """The controller appraised this state: from now on it has to be there. ``host`` and ``epoch`` are the grant's."""

    host: _Digest
    epoch: _Number
    programs: _Digests
    policies: _Digests

    @property
    def state(self) -> Attached:
        """The same as it is read from the kernel."""
        return Attached(self.programs, self.policies)


class Changing(Message, frozen=True, tag="changing"):
    """The agent begins to change what is there; ``Pending`` follows, and until then no state is surprising."""


class Pending(Message, frozen=True, tag="pending"):
    """A change is coming: this state is taken too, for a while in which it has to be attested."""

    programs: _Digests
    policies: _Digests

    @property
    def state(self) -> Attached:
        """The same as it is read from the kernel."""
        return Attached(self.programs, self.policies)


class Alive(Message, frozen=True, tag="alive"):
    """The agent is there. At least once a second."""


class Key(Message, frozen=True, tag="key"):
    """The answer to ``AskKey``: an Ed25519 public key."""

    key: _Digest


class Standing(Message, frozen=True, tag="standing"):
    """The answer to everything else: why there is no pulse, empty while there is one."""

    why: str


Request = AskKey | Attested | Changing | Pending | Alive
Answer = Key | Standing

encode = msgspec.msgpack.Encoder().encode
decode_request: Reader[Request] = Reader(Request)
decode_answer: Reader[Answer] = Reader(Answer)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One message's bytes. Raises ChannelError if the other side is gone or announces more than the limit."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > MESSAGE_LIMIT_BYTES:
            raise ChannelError(f"a message of {length} bytes, and {MESSAGE_LIMIT_BYTES} are the limit")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise ChannelError("the other side is gone") from error


async def write_frame(writer: asyncio.StreamWriter, message: Request | Answer) -> None:
    """Send one message. Raises ChannelError if the other side is gone."""
    data = encode(message)
    try:
        writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        await writer.drain()
    except OSError as error:
        raise ChannelError("the other side is gone") from error
