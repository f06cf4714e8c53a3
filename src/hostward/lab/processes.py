"""Commands that the lab runs, and processes that it started: known by pid and start time, so that none else is ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostward.errors import HostwardError

_END_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Started:
    """One process. The pair is unique on a running machine; a pid alone is not."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return start_ticks(self.pid) == self.start_ticks

    def end(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone. Does nothing to another process with its number."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                handle = os.pidfd_open(self.pid)
            except ProcessLookupError:
                return
            try:
                if not self.alive:  # checked after the handle was taken: it cannot be another process any more
                    return
                signal.pidfd_send_signal(handle, number)
                _await_end(handle)
            finally:
                os.close(handle)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                _await_end(handle)
        finally:
            os.close(handle)


def _await_end(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(_END_LIMIT_S * 1e3)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 if there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    fields = text[text.rindex(")") + 2 :].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


def identify(pid: int) -> Started:
    """Note a process that was just started."""
    return Started(pid, start_ticks(pid))


def run(command: Sequence[str], *, given: str | None = None, limit_s: float = 30.0) -> str:
    """Run a command to its end; its output. Raises HostwardError with its last words if it fails."""
    done = subprocess.run(list(command), input=given, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise HostwardError(
            words[-1] if words else f"exit status {done.returncode}",
            subject=" ".join(command[:6]),
            hint="the lab needs root and the packages that `make setup` installs",
        )
    return done.stdout


def launch(command: Sequence[str], log: Path, *, environment: dict[str, str] | None = None) -> Started:
    """Start a process that outlives this one; its output goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    return identify(process.pid)


def child_of(started: Started, limit_s: float = 10.0) -> Started:
    """The one child of a process that forks, as unshare(1) and nsenter(1) do, once it is there."""
    path = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s and started.alive:
        children = path.read_text().split()
        if children:
            return identify(int(children[0]))
        time.sleep(0.005)  # /proc has no event for a fork
    raise HostwardError("the process ended before it began", subject=f"pid {started.pid}")
