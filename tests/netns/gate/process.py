"""A daemon as a process, with the capabilities of its unit, and what it says as it says it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.netns.pair import inside_of

HOSTWARD = Path(sys.executable).parent / "hostward"
READY_S = 60.0


class Daemon:
    """One process; its lines as they come."""

    def __init__(self, namespace: str, *words: str, under: Sequence[str] = ()) -> None:
        self._lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [*inside_of(namespace), *under, str(HOSTWARD), *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()

    @property
    def text(self) -> str:
        with self._more:
            return "".join(self._lines)

    def await_line(self, words: str, limit_s: float = READY_S) -> None:
        with self._more:
            found = self._more.wait_for(lambda: any(words in line for line in self._lines), limit_s)
        assert found, f"{words!r} is not in:\n{self.text}"

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; what it said is shown if the test fails."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(20)
        self._reader.join(20)
        assert self.process.stderr is not None
        self.process.stderr.close()
        print(self.text)


def capabilities(kind: str) -> list[str]:
    """What goes before a command to give it what the unit of its service does, and nothing else that root may."""
    unit = Path(__file__).parents[3] / "packaging" / "systemd" / f"hostward-{kind}.service"
    line = next(line for line in unit.read_text().splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())
    return ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs", "--"]
