"""Servers inside a workload: one interpreter, copied to the paths that rules name, runs a few lines in the namespace.

What arrives is counted by them, beyond the port: a line for each connection or datagram.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.netns.pair import inside_of

# Whatever is awaited comes at once; this is for a machine that others use too.
_LIMIT_S = 20.0

TCP = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
held = socket.socket(family, socket.SOCK_STREAM)
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for option in sys.argv[3:]:
    name, _, value = option.partition("=")
    held.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value.encode() or 1)
held.bind((sys.argv[1], int(sys.argv[2])))
held.listen(64)
print("ready", flush=True)
while True:
    accepted, _ = held.accept()
    print("arrived", flush=True)
    {then}
"""
# A connection is closed by the server first, which so keeps its ports for a minute.
CLOSE = "accepted.recv(1); accepted.close()"
ECHO = "[accepted.sendall(data) for data in iter(lambda: accepted.recv(64), b'')]"

UDP = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
held = socket.socket(family, socket.SOCK_DGRAM)
for option in sys.argv[3:]:
    name, _, value = option.partition("=")
    held.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value.encode() or 1)
held.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    data, peer = held.recvfrom(64)
    print("arrived", flush=True)
    held.sendto(data, peer)
"""


class Server:
    """A process that said it is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._seen = ""

    def expect(self, word: str, limit_s: float = _LIMIT_S) -> bool:
        """Whether a line comes within a time."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline_s = time.monotonic() + limit_s
        while "\n" not in self._seen:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                return False
            read = os.read(descriptor, 4_096).decode()
            assert read, f"it ended with {self.process.wait()}"
            self._seen += read
        line, _, self._seen = self._seen.partition("\n")
        assert line == word, line
        return True

    def arrived(self, limit_s: float = _LIMIT_S) -> bool:
        """Whether something arrives."""
        return self.expect("arrived", limit_s)

    def say(self, line: str) -> None:
        """A line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


@contextmanager
def server(namespace: str, program: Path, script: str, *arguments: str, before: Sequence[str] = ()) -> Iterator[Server]:
    """Run a script by a program in a namespace, from when it is ready to the end."""
    command = (*inside_of(namespace), *before, str(program), "-I", "-S", "-c", script, *arguments)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        made = Server(process)
        assert made.expect("ready")
        yield made
    finally:
        process.kill()
        process.communicate()


def interpreters(directory: Path) -> tuple[Path, Path]:
    """One interpreter at the path that rules name, and at another one."""
    paths = (directory / "opt" / "db", directory / "opt" / "other")
    paths[0].parent.mkdir()
    directory.chmod(0o755)
    for path in paths:
        shutil.copy(Path(sys.executable).resolve(), path)
    return paths
