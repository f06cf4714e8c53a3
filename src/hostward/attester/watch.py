"""A watch over measured files: a write, a replacement or a removal leads to a new measurement and a new quote at once.

It shortens the time until the verifier knows; it is no defence by itself. A folder further up that is moved is not seen,
nor a write that the kernel makes without a file (to the block device, say): IMA and the next quote see what is opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType

from hostward.attester.fanotify import Fanotify
from hostward.attester.inotify import Inotify
from hostward.attester.watched import EVERYTHING, Source, WatchedFiles
from hostward.errors import HostwardError

__all__ = ["EVERYTHING", "FileWatch"]

log = logging.getLogger(__name__)
_WAYS: tuple[Callable[[WatchedFiles], Source], ...] = (Fanotify, Inotify)


class FileWatch:
    """Watches from its construction on: what changes before ``changes`` is asked is told by it. Raises HostwardError.

    The folders of the files have to be there, the files need not be.
    """

    def __init__(self, paths: Sequence[Path], ways: Sequence[Callable[[WatchedFiles], Source]] = _WAYS) -> None:
        files = WatchedFiles(paths)
        refused: list[str] = []
        for way in ways:
            try:
                self._source = way(files)
            except OSError as error:
                refused.append(error.strerror or str(error))
                continue
            self.way = way.__name__.lower()
            if refused:
                log.warning("files are watched by %s: %s", self.way, "; ".join(refused))
            return
        raise HostwardError(f"the measured files cannot be watched: {'; '.join(refused)}")

    def __enter__(self) -> FileWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the watch. Nobody may wait for changes any more."""
        os.close(self._source.descriptor)

    async def changes(self) -> AsyncIterator[Path]:
        """Each change as the path that was given; ``EVERYTHING`` where the kernel lost events.

        A file whose folder was moved or removed is told once more, and watched no longer: make a new watch. Raises
        HostwardError if what took a file's place cannot be watched.
        """
        while True:
            await _readable(self._source.descriptor)
            try:
                changed = self._source.read()
            except OSError as error:
                raise HostwardError(f"the measured files are watched no longer: {error.strerror or error}") from error
            for path in changed:
                yield path


async def _readable(descriptor: int) -> None:
    # Once, not for as long as it is readable: between two waits the loop would turn for nothing.
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
