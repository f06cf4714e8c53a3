"""Processes: the right one is ended, and no other."""

import subprocess

import pytest

from hostward.errors import HostwardError
from hostward.lab.processes import Started, identify, run


def test_a_process_is_ended() -> None:
    process = subprocess.Popen(["sleep", "100"])
    started = identify(process.pid)
    assert started.alive
    started.end()
    assert not started.alive
    process.wait()


def test_another_process_with_the_number_is_left_alone() -> None:
    process = subprocess.Popen(["sleep", "100"])
    try:
        stale = Started(process.pid, identify(process.pid).start_ticks - 1)
        stale.end()
        stale.kill()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_failing_command_says_why() -> None:
    with pytest.raises(HostwardError, match="cannot access"):
        run(["ls", "/nowhere"])
