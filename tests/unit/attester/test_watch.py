"""Changes of files, told by the kernel; by both ways, and without privileges."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from hostward.attester.fanotify import Fanotify
from hostward.attester.inotify import Inotify
from hostward.attester.watch import EVERYTHING, FileWatch
from hostward.attester.watched import Source, WatchedFiles
from hostward.errors import HostwardError

LIMIT_S = 60
WAYS = pytest.mark.parametrize("way", [Fanotify, Inotify])
Way = Callable[[WatchedFiles], Source]


async def first(watch: FileWatch) -> Path:
    async with asyncio.timeout(LIMIT_S), aclosing(watch.changes()) as changes:  # type: ignore[type-var]
        return await anext(changes)


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"another")
    new.replace(path)


def through_another_name(path: Path) -> None:
    path.with_name("elsewhere").joinpath("link").write_bytes(b"changed")


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda path: path.write_bytes(b"changed"),
    "replaced by rename": replaced,
    "removed": lambda path: path.unlink(),
    "moved away": lambda path: path.rename(path.with_name("away")),
    "mode changed": lambda path: path.chmod(0o755),
    "written through another name": through_another_name,
    "its folder moved": folder_moved,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "elsewhere").mkdir()
    path = folder / "file"
    path.write_bytes(b"content")
    (folder / "elsewhere" / "link").hardlink_to(path)
    return path


@WAYS
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told(file: Path, way: Way, change: str) -> None:
    other = file.with_name("other")
    other.write_bytes(b"of no interest")

    async def run() -> Path:
        with FileWatch([file], [way]) as watch:
            other.write_bytes(b"still of no interest")
            waiting = asyncio.ensure_future(first(watch))
            await asyncio.sleep(0)
            CHANGES[change](file)
            return await waiting

    assert asyncio.run(run()) == file


@WAYS
def test_what_took_the_place_is_watched_too(file: Path, way: Way) -> None:
    async def run() -> list[Path]:
        seen: list[Path] = []
        with FileWatch([file], [way]) as watch:
            replaced(file)
            seen.append(await first(watch))
            link = file.with_name("elsewhere").joinpath("second")
            link.hardlink_to(file)
            seen.append(await first(watch))  # a link is an attribute of the new file
            link.write_bytes(b"changed")
            seen.append(await first(watch))
        return seen

    assert asyncio.run(run()) == [file] * 3


@WAYS
def test_a_file_that_is_not_there_yet_is_told_when_it_comes(file: Path, way: Way) -> None:
    later = file.with_name("later")

    async def run() -> Path:
        with FileWatch([file, later], [way]) as watch:
            later.write_bytes(b"here")
            return await first(watch)

    assert asyncio.run(run()) == later


@WAYS
def test_a_symbolic_link_is_watched_where_it_leads(file: Path, way: Way) -> None:
    link = file.parent.parent / "link"
    link.symlink_to(file)

    async def run() -> list[Path]:
        seen: list[Path] = []
        with FileWatch([link], [way]) as watch:
            CHANGES["written"](file)
            seen.append(await first(watch))
            CHANGES["removed"](link)
            seen.append(await first(watch))
        return seen

    assert asyncio.run(run()) == [link] * 2


@WAYS
def test_lost_events_are_told_as_everything(file: Path, way: Way) -> None:
    folder = file.parent

    async def run() -> Path:
        with FileWatch([file], [way]) as watch:
            for number in range(20_000):  # the queue holds 16,384
                os.close(os.open(folder / str(number), os.O_CREAT | os.O_WRONLY))
                os.unlink(folder / str(number))
            return await first(watch)

    assert asyncio.run(run()) == EVERYTHING


def test_inotify_is_taken_only_where_fanotify_is_refused(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refusing(files: WatchedFiles) -> Source:
        raise OSError(errno.EPERM, "fanotify_init: Operation not permitted")

    with caplog.at_level(logging.WARNING), FileWatch([file]) as watch:
        assert watch.way == "fanotify"
    assert not caplog.records
    with caplog.at_level(logging.WARNING), FileWatch([file], [refusing, Inotify]) as watch:
        assert watch.way == "inotify"
    assert "Operation not permitted" in caplog.text
    with pytest.raises(HostwardError, match="cannot be watched"):
        FileWatch([file], [refusing])


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostwardError, match="No such file"):
        FileWatch([tmp_path / "none" / "file"])


_WITHOUT_PRIVILEGES = """
import asyncio, sys
from pathlib import Path
from hostward.attester.watch import FileWatch

async def run():
    path = Path(sys.argv[1])
    with FileWatch([path]) as watch:
        path.write_bytes(b"changed")
        async for changed in watch.changes():
            print(watch.way, changed)
            return

asyncio.run(run())
"""


def test_it_works_without_capabilities(file: Path) -> None:
    bound = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    command = [*bound, sys.executable, "-c", _WITHOUT_PRIVILEGES, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.split() == ["fanotify", str(file)], done.stderr
