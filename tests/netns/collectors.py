"""A collector of flow records for tests: keeps every message, hands it on to foreign ones, and has tshark read it.

Its namespace is of its own, and has nothing but loopback: the exporter's socket is made in it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.netns.pair import in_namespace, inside_of, run

T = TypeVar("T")
PORT, NFCAPD, NFACCTD = 4739, 4740, 4741
_SO_RCVBUFFORCE = 33  # socket(7)
_LOOPBACK = "127.0.0.1"
_RAW_IP = 228  # LINKTYPE_IPV4


class Collector:
    """Listens on 127.0.0.1:4739 of its namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.messages: list[bytes] = []
        self.copies: list[int] = []
        self._socket = self.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        self._socket.bind((_LOOPBACK, PORT))
        self._socket.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def inside(self, work: Callable[[], T]) -> T:
        """Run something in its namespace."""
        return in_namespace(self.namespace, work)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._socket.recv(65_535)
            except TimeoutError:
                continue
            self.messages.append(message)
            for port in self.copies:
                self._socket.sendto(message, (_LOOPBACK, port))

    def close(self) -> None:
        """Take what is on its way, and stop."""
        time.sleep(0.2)
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def write_pcap(self, path: Path) -> None:
        """Every message as a UDP datagram of IPv4."""
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, _RAW_IP))
            for message in self.messages:
                udp = struct.pack("!HHHH", 40_000, PORT, 8 + len(message), 0) + message
                header = struct.pack(
                    "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1"
                )
                file.write(struct.pack("<IIII", 0, 0, len(header) + len(udp), len(header) + len(udp)) + header + udp)


def tshark(collector: Collector, folder: Path, *fields: str) -> list[dict[str, list[str]]]:
    """What tshark reads in the messages: of each the given fields, every occurrence."""
    path = folder / "messages.pcap"
    collector.write_pcap(path)
    command = ["tshark", "-r", str(path), "-d", f"udp.port=={PORT},cflow", "-T", "json"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    messages = json.loads(shown.stdout, object_pairs_hook=list)
    found = []
    for message in messages:
        values: dict[str, list[str]] = {field: [] for field in fields}
        _gather(message, values)
        found.append(values)
    return found


def _gather(pairs: Any, values: dict[str, list[str]]) -> None:
    for pair in pairs:
        if not isinstance(pair, tuple):
            _gather(pair, values) if isinstance(pair, list) else None
            continue
        name, value = pair
        if isinstance(value, list):
            _gather(value, values)
        elif name in values:
            values[name].append(value)


@contextmanager
def running(collector: Collector, *command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A foreign collector in the namespace; ends by SIGINT, with what it holds written."""
    with log.open("wb") as output:
        process = subprocess.Popen([*inside_of(collector.namespace), *command], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nfcapd(collector: Collector, folder: Path) -> Iterator[Path]:
    """nfcapd, to a folder for `nfdump -R`, which is whole once this ends."""
    folder.mkdir()
    command = ("nfcapd", "-p", str(NFCAPD), "-b", _LOOPBACK, "-w", str(folder), "-t", "3600")
    with running(collector, *command, log=folder.with_suffix(".log")):
        _wait_for_port(collector, NFCAPD)
        collector.copies.append(NFCAPD)
        yield folder
        time.sleep(0.5)


def nfdump(folder: Path) -> list[dict[str, str]]:
    """Its records."""
    command = ["nfdump", "-R", str(folder), "-o", "csv", "-N"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    lines = [line for line in shown.stdout.split("Summary")[0].splitlines() if line.strip()]
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def _wait_for_port(collector: Collector, port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        listening = collector.inside(lambda: Path("/proc/thread-self/net/udp").read_text())
        if f":{port:04X} " in listening:
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


@contextmanager
def nfacctd(collector: Collector, folder: Path) -> Iterator[Path]:
    """nfacctd, to a file of JSON lines, which is whole once this ends."""
    folder.mkdir()
    out = folder / "flows.json"
    primitives = (
        "src_host, dst_host, src_port, dst_port, proto, timestamp_start, timestamp_end, in_iface, out_iface, "
        "tcpflags, tenant, revision"
    )
    (folder / "primitives.lst").write_text(
        "name=tenant field_type=32473:1 len=vlen semantics=str\n"
        "name=revision field_type=32473:5 len=8 semantics=u_int\n"
    )
    (folder / "nfacctd.conf").write_text(
        f"daemonize: false\nnfacctd_ip: {_LOOPBACK}\nnfacctd_port: {NFACCTD}\nplugins: print\n"
        f"aggregate: {primitives}\naggregate_primitives: {folder}/primitives.lst\n"
        f"print_output: json\nprint_output_file: {out}\nprint_output_file_append: true\nprint_refresh_time: 1\n"
        f"plugin_pipe_size: 10240000\nplugin_buffer_size: 102400\n"
    )
    with running(collector, "nfacctd", "-f", str(folder / "nfacctd.conf"), log=folder / "log") as process:
        _wait_for_port(collector, NFACCTD)
        collector.copies.append(NFACCTD)
        yield out
        time.sleep(2.5)
        assert process.poll() is None, (folder / "log").read_text()


@contextmanager
def collecting(tag: str) -> Iterator[Collector]:
    """A collector in a namespace of its own, gone afterwards."""
    namespace = f"hwcol{tag}"
    run("ip", "netns", "add", namespace)
    try:
        run(*inside_of(namespace), "ip", "link", "set", "lo", "up")
        made = Collector(namespace)
        try:
            yield made
        finally:
            made.close()
    finally:
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def tool_missing(name: str) -> bool:
    """Whether a foreign collector is not installed."""
    return not any(os.access(Path(folder) / name, os.X_OK) for folder in ("/usr/bin", "/usr/sbin"))
