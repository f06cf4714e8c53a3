"""Collectors that others wrote, from Debian, run in a namespace of the test's own on datagrams that were recorded."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.netns.pair import in_namespace, inside_of, run

SFLOW_PORT = 6343
RCVBUFFORCE = 33  # SO_RCVBUFFORCE, which Python has no name for
_LIMIT_S = 20.0


def needs(*programs: str) -> None:
    """Skip where a collector is not installed."""
    missing = [program for program in programs if shutil.which(program, path="/usr/bin:/usr/sbin") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


class Room:
    """A namespace with nothing but loopback, and a receiver on it that keeps what it is sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        run(*inside_of(name), "ip", "link", "set", "lo", "up")
        self._receiver = self.socket()
        self._receiver.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 64 << 20)
        self._receiver.bind(("127.0.0.1", SFLOW_PORT))
        self._receiver.setblocking(False)

    def socket(self) -> socket.socket:
        return in_namespace(self.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def close(self) -> None:
        self._receiver.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def deafen(self) -> None:
        """Nobody listens any more."""
        self._receiver.close()

    def received(self) -> list[bytes]:
        """What came until now."""
        found: list[bytes] = []
        while self._receiver.fileno() >= 0:
            try:
                found.append(self._receiver.recv(65_536))
            except BlockingIOError:
                break
        return found

    def play(self, datagrams: Sequence[bytes], port: int, command: Sequence[str], finished: Callable[[], bool]) -> None:
        """Run a collector, send it datagrams once it listens, and end it when it has ``finished``."""
        process = subprocess.Popen(
            [*inside_of(self.name), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(lambda: self._listens(port))
            with self.socket() as sender:
                for datagram in datagrams:
                    sender.sendto(datagram, ("127.0.0.1", port))
                    time.sleep(0.0005)  # neither collector has a large buffer
            _wait(finished)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=_LIMIT_S)

    def _listens(self, port: int) -> bool:
        shown = subprocess.run(
            [*inside_of(self.name), "ss", "-Huln", f"sport = :{port}"], capture_output=True, text=True, check=False
        )
        return bool(shown.stdout.strip())


def _wait(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def by_sfcapd(room: Room, datagrams: Sequence[bytes], folder: Path) -> list[dict[str, Any]]:
    """The flows that nfdump's sfcapd makes of datagrams."""
    folder.mkdir()
    command = ("sfcapd", "-b", "127.0.0.1", "-p", "7343", "-l", str(folder), "-t", "3600")
    room.play(datagrams, 7343, command, lambda: time.sleep(1) is None)
    shown = subprocess.run(
        ["nfdump", "-R", str(folder), "-o", "json"], capture_output=True, text=True, check=True, timeout=_LIMIT_S
    )
    return list(json.loads(shown.stdout))


def by_sfacctd(room: Room, datagrams: Sequence[bytes], folder: Path) -> list[dict[str, Any]]:
    """What pmacct's sfacctd sums up, scaled up by the sampling rate."""
    folder.mkdir()
    out = folder / "out.json"
    (folder / "conf").write_text(
        "daemonize: false\nsfacctd_ip: 127.0.0.1\nsfacctd_port: 7344\nplugins: print\nsfacctd_renormalize: true\n"
        "aggregate: src_host,dst_host,src_port,dst_port,proto,in_iface,out_iface\nprint_output: json\n"
        f"print_output_file: {out}\nprint_output_file_append: true\nprint_refresh_time: 2\nlogfile: {folder}/log\n"
    )

    def settled() -> bool:
        size = out.stat().st_size if out.exists() else 0
        time.sleep(2.5)
        return size > 0 and out.stat().st_size == size

    room.play(datagrams, 7344, ("sfacctd", "-f", str(folder / "conf")), settled)
    return [json.loads(line) for line in out.read_text().splitlines()]


def by_tshark(datagrams: Sequence[bytes], folder: Path, *fields: str) -> list[list[str]]:
    """Fields of each datagram, as tshark's dissector sees them; several values of one are joined by commas."""
    folder.mkdir()
    capture = folder / "capture.pcap"
    with capture.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))
        for datagram in datagrams:
            udp = struct.pack("!HHHH", 40_000, SFLOW_PORT, 8 + len(datagram), 0) + datagram
            packet = (
                struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
                + bytes((192, 0, 2, 1, 192, 0, 2, 2))
                + udp
            )
            file.write(struct.pack("<IIII", 1, 0, len(packet), len(packet)) + packet)
    wanted = [word for name in fields for word in ("-e", name)]
    shown = subprocess.run(
        ["tshark", "-r", str(capture), "-d", f"udp.port=={SFLOW_PORT},sflow", "-Tfields", "-Eseparator=|", *wanted],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.split("|") for line in shown.stdout.splitlines()]
