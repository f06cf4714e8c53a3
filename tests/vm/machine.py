"""A QEMU machine under TCG that can be stopped dead at any moment, and whose lines can be waited for.

It owns the process and its two sockets: QMP, and the guest's second serial port. What the guest says is not judged here.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.vm.initramfs import find_kernel

# A guest that says nothing for this long hangs; a whole boot takes a tenth of it where a processor is free.
SILENCE_LIMIT_S = 120.0


class Machine:
    """Runs until it is left; ``disk`` is the NBD socket of its one disk.

    It starts with its kernel, or from ``memory``, which a machine like it has saved.
    """

    def __init__(self, image: Path, disk: Path, folder: Path, memory: Path | None = None) -> None:
        self._console = folder / "console.log"
        self._report_path, self._control_path = folder / "report.socket", folder / "qmp.socket"
        line = "console=ttyS0 quiet random.trust_cpu=on mitigations=off tsc=reliable"
        self._command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768",
            "-nodefaults", "-no-user-config", "-display", "none", "-S",
            "-kernel", str(find_kernel()[0]), "-initrd", str(image), "-append", line,
            "-blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={disk}",
            "-device", "virtio-blk-pci,drive=disk,write-cache=on",
            "-serial", f"file:{self._console}",
            "-chardev", f"socket,id=report,path={self._report_path},server=on,wait=off", "-serial", "chardev:report",
            "-qmp", f"unix:{self._control_path},server=on,wait=off",
            *(["-incoming", f"exec:cat {memory}"] if memory else []),
        ]  # fmt: skip

    def __enter__(self) -> Machine:
        self._events: deque[dict[str, Any]] = deque()
        for socket_left in (self._report_path, self._control_path):
            socket_left.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        try:
            self._qmp = _Lines(self._connected(self._control_path))
            self._report = _Lines(self._connected(self._report_path))
            self._qmp.next()  # the greeting
            self._ask("qmp_capabilities")
            self._ask("cont")
            self._next_event("RESUME")  # what is said to a machine that still loads its memory is lost
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        self._qmp.close()
        self._report.close()

    def kill(self) -> None:
        """Stop it dead. What it has said until then can still be read."""
        # Not `quit`: nothing that the guest did not flush may be flushed for it.
        self._process.kill()
        self._process.wait()

    def save(self, memory: Path) -> None:
        """Keep its memory and its devices' state; it goes no further."""
        self._ask("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
        self._ask("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self._ask("migrate", {"uri": f"exec:cat > {memory}"})
        while (status := self._next_event("MIGRATION")["status"]) != "completed":
            assert status != "failed", self.console()

    def say(self, line: str) -> None:
        """A line to the guest."""
        self._report.send(line)

    def next_line(self) -> str:
        """The next line of the guest's report."""
        try:
            return self._report.next()
        except TimeoutError:
            raise AssertionError(f"the guest is silent; its console:\n{self.console()}") from None

    def console(self) -> str:
        """The end of what the guest's kernel printed."""
        return self._console.read_text(errors="replace")[-4_000:]

    def _ask(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        self._qmp.send(json.dumps({"execute": command, "arguments": arguments or {}}))
        while "return" not in (answer := self._qmp.next_json()):
            assert "error" not in answer, answer
            self._events.append(answer)

    def _next_event(self, name: str) -> dict[str, Any]:
        while True:
            event = self._events.popleft() if self._events else self._qmp.next_json()
            if event.get("event") == name:
                data: dict[str, Any] = event.get("data", {})
                return data

    def _connected(self, path: Path) -> socket.socket:
        """QEMU makes its sockets when it is ready to, and tells nobody."""
        deadline = time.monotonic() + 30
        while True:
            end = socket.socket(socket.AF_UNIX)
            try:
                end.connect(str(path))
                return end
            except OSError:
                end.close()
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)


class _Lines:
    """Lines over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.settimeout(SILENCE_LIMIT_S)
        self._kept = b""

    def send(self, line: str) -> None:
        self._end.sendall(line.encode() + b"\n")

    def next(self) -> str:
        while b"\n" not in self._kept:
            more = self._end.recv(65_536)
            if not more:
                raise EOFError("QEMU closed its socket")
            self._kept += more
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode(errors="replace").strip()

    def next_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.next())
        return answer

    def close(self) -> None:
        self._end.close()
