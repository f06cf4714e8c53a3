"""The agent's end of the sentinel's socket. A lost connection is opened anew with the next question."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from hostward.datapath.attached import Attached
from hostward.errors import ChannelError
from hostward.sentinel import messages
from hostward.sentinel.messages import Answer, Request

ANSWER_LIMIT_S = 5.0


class SentinelClient:
    """``path`` is the socket. Every method raises ChannelError while the sentinel cannot be asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def key(self) -> bytes:
        """The public key of pulses (Ed25519, 32 bytes): another one if the sentinel has started anew."""
        answer = await self._ask(messages.AskKey())
        if not isinstance(answer, messages.Key):
            raise ChannelError("the sentinel did not answer with its key", subject=str(self._path))
        return answer.key

    async def attested(self, host: bytes, epoch: int, state: Attached) -> str:
        """This state was appraised as good, for a grant to ``host`` in boot ``epoch``. Returns as ``alive`` does."""
        return await self._stand(messages.Attested(host, epoch, state.programs, state.policies))

    async def changing(self) -> str:
        """Something is about to be changed; ``pending`` is to follow. Returns as ``alive`` does."""
        return await self._stand(messages.Changing())

    async def pending(self, state: Attached) -> str:
        """This state is there, or will be, and is to be attested within ten seconds. Returns as ``alive`` does."""
        return await self._stand(messages.Pending(state.programs, state.policies))

    async def alive(self) -> str:
        """To be said once a second. Returns why there was no pulse when the sentinel looked last; empty if there was."""
        return await self._stand(messages.Alive())

    async def close(self) -> None:
        """Close the connection; the sentinel goes on."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _stand(self, request: Request) -> str:
        answer = await self._ask(request)
        if not isinstance(answer, messages.Standing):
            raise ChannelError("the sentinel answered something else", subject=str(self._path))
        return answer.why

    async def _ask(self, request: Request) -> Answer:
        async with self._one_at_a_time:
            fresh = self._streams is None
            try:
                return await self._exchange(request)
            except ChannelError:
                if fresh:
                    raise
            return await self._exchange(request)  # the sentinel may have started anew since

    async def _exchange(self, request: Request) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(str(self._path))
                await messages.write_frame(self._streams[1], request)
                return messages.decode_answer.decode(await messages.read_frame(self._streams[0]))
        except (ChannelError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            await self.close()
            reason = getattr(error, "what", "") or str(error) or "it does not answer"
            raise ChannelError(
                f"the sentinel cannot be asked: {reason}", subject=str(self._path), hint="is hostward-sentinel running?"
            ) from error
        except BaseException:
            await self.close()  # cancelled between question and answer: the next answer would be this one's
            raise
