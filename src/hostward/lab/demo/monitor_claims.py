"""What monitoring sees: samples and flow records in foreign collectors, and an inspector that finds and stops.

A lab of its own: `acme` asks for inspection and samples, `quiet` for neither. What arrives is counted at the servers.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from hostward.errors import NotFoundError
from hostward.lab import network
from hostward.lab.demo.claims import Claims, require
from hostward.lab.inside import socket_in
from hostward.lab.lab import Lab, prepare
from hostward.lab.processes import Started, launch
from hostward.lab.state import load_state, tear_down
from hostward.lab.topology import read_topology
from hostward.lab.web import WebServer

TOPOLOGY = Path("examples/monitored/lab/topology.yaml")
ATTACK = b"GET /cgi-bin/../../../etc/passwd HTTP/1.1\r\nHost: shop.example\r\n\r\n"
FINE = b"GET /index.html HTTP/1.1\r\nHost: shop.example\r\n\r\n"
BEHIND = b"what the attacker would send next\r\n" * 20
WEB_ATTACK, BLOCKED_NAME, EVIL_NAME = 1_000_001, 1_000_002, 1_000_003
_LIMIT_S = 20.0
_SFLOW, _IPFIX = 6343, 4739


def claim_all(claims: Claims, console: Console, file: Path) -> None:
    """The whole chapter, with its lab."""
    claims.chapter("What passes is seen: samples, flow records, intrusions")
    with contextlib.suppress(NotFoundError):
        tear_down(load_state(read_topology(file).name))
    started_s = time.monotonic()
    lab = prepare(file, lambda text: console.print(f"[dim]{text}[/]"))
    try:
        with Scene(lab) as scene:
            claims.figure("monitored lab up", f"{time.monotonic() - started_s:.1f} s")
            for name, claim in CLAIMS:
                claims.hold(name, lambda claim=claim: claim(scene, claims))  # type: ignore[misc]
    finally:
        lab.close()
        tear_down(lab.state)


class Scene:
    """The lab, its web servers, and the collectors beside the controller."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.state.folder / "collected"
        self.servers: dict[str, WebServer] = {}
        self._collectors: list[Started] = []
        self.sent = (0, 0)  # by which port how many bytes of the stream that is sampled

    def __enter__(self) -> Scene:
        """Collectors first: templates go out when an agent starts, and then once in ten minutes."""
        lab = self.lab
        lab.build()
        self._collect()
        lab.start_hostward()
        lab.apply_policy()
        lab.attach_endpoints()
        lab.await_network()
        for tenant in ("acme", "quiet"):
            endpoint = self.lab.endpoint(f"{tenant}/web")
            server = WebServer(self.namespace(endpoint.id), endpoint.address(4), (80, 443, 5001), (53,))
            self.servers[tenant] = server
        require(self._until(lambda: self.ready()), "no inspector has its signatures")
        return self

    def _collect(self) -> None:
        for program, port in (("sfcapd", _SFLOW), ("nfcapd", _IPFIX)):
            if shutil.which(program) is None:
                continue
            own = self.folder / program
            own.mkdir(parents=True)
            # Whole files every two seconds, so that they can be read while it collects.
            command = [program, "-w", str(own), "-p", str(port), "-t", "2", "-b", network.CONTROLLER_ADDRESS]
            controller = network.enter(self.lab.state.namespace("controller"))
            self._collectors.append(launch([*controller, *command], self.folder / f"{program}.log"))

    def __exit__(self, *_: object) -> None:
        for collector in self._collectors:
            collector.end()
        for server in self.servers.values():
            server.close()

    def namespace(self, endpoint: str) -> str:
        """Where an endpoint's sockets are."""
        return f"/run/netns/{self.lab.namespace_of(self.lab.endpoint(endpoint))}"

    def ready(self) -> bool:
        """Whether the inspector beside the web servers has signatures."""
        log = self.lab.state.host_folder("h1") / "agent.log"
        return "signatures are in force" in log.read_text(errors="replace")

    def connect(self, tenant: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """From a tenant's client to its web server."""
        made = socket_in(self.namespace(f"{tenant}/client"), socket.AF_INET, kind)
        made.settimeout(3.0)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect((self.lab.endpoint(f"{tenant}/web").address(4), port))
        return made

    def alerts(self, signature: int | None = None, tenant: str = "") -> list[Mapping[str, Any]]:
        """What `hostward alerts` shows."""
        shown = [json.loads(line) for line in self.lab.operator.lines("/v1/alerts")]
        return [
            alert
            for alert in shown
            if (signature is None or alert["alert"]["signature_id"] == signature)
            and (not tenant or alert["hostward"]["tenant"] == tenant)
        ]

    def alert_of(self, signature: int) -> Mapping[str, Any]:
        """Wait for an alert of a signature. Raises ClaimFailedError."""
        require(self._until(lambda: bool(self.alerts(signature))), f"no alert of signature {signature}")
        return self.alerts(signature)[-1]

    def until(self, wanted: Callable[[], bool], otherwise: str) -> None:
        """Wait until something is so. Raises ClaimFailedError."""
        require(self._until(wanted), otherwise)

    @staticmethod
    def _until(wanted: Callable[[], bool]) -> bool:
        deadline_s = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline_s:
            if wanted():
                return True
            time.sleep(0.05)
        return False

    def stopped(self, connection: socket.socket, tenant: str = "acme") -> int:
        """How many of the bytes that follow an alert arrive once the flow is stopped; Raises ClaimFailedError if all do."""
        server = self.servers[tenant]
        before = server.received(connection.getsockname())
        self.until(lambda: self._denied("signature"), "no packet was denied for a signature")
        with contextlib.suppress(OSError):
            connection.sendall(BEHIND)
        time.sleep(0.5)  # as long as a retransmission takes to arrive, if anything could
        return server.received(connection.getsockname()) - before

    def _denied(self, reason: str) -> bool:
        return any(flow["reason"] == reason for flow in self.lab.operator.flows(verdict="deny"))

    def dumped(self, program: str, *words: str) -> list[list[str]]:
        """What nfdump reads of a collector's files, as fields."""
        command = [
            "nfdump",
            "-R",
            str(self.folder / program),
            "-q",
            "-N",
            "-o",
            "fmt:%sa,%da,%sp,%dp,%pr,%pkt,%byt",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return [
            [field.strip() for field in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 6
        ]


def _describe(alert: Mapping[str, Any]) -> str:
    own, what = alert["hostward"], alert["alert"]
    return (
        f"[{what['gid']}:{what['signature_id']}:{what['rev']}] {what['signature']}, {what['action']}; "
        f"{own['tenant']}'s {own['endpoint']} ({', '.join(own['group'])}) on {own['host']}, let in by {own['rule']}"
    )


def _attributed(alert: Mapping[str, Any], rule: str) -> str:
    own = alert["hostward"]
    require(
        (own["tenant"], own["endpoint"], own["host"], own["rule"]) == ("acme", "acme/web", "h1", rule),
        f"attributed to {own}",
    )
    return _describe(alert)


def _single_bytes(scene: Scene, _: Claims) -> str:
    with scene.connect("acme", 80) as bad, scene.connect("acme", 80) as good:
        for offset in range(len(ATTACK)):
            with contextlib.suppress(OSError):
                bad.sendall(ATTACK[offset : offset + 1])
        told = _attributed(scene.alert_of(WEB_ATTACK), "acme/web")
        with contextlib.suppress(OSError):
            bad.sendall(BEHIND)
        arrived = scene.stopped(bad)
        require(arrived == 0, f"{arrived} bytes arrived behind it")
        good.sendall(FINE)
        require(good.recv(200).endswith(b"ok"), "another connection of the same client does not go on")
    return f"{told}\nof what followed 0 bytes arrived; another connection goes on"


def _dns(scene: Scene, _: Claims) -> str:
    with scene.connect("acme", 53, socket.SOCK_DGRAM) as asker:
        asker.send(_question("www.fine.example"))
        require(bool(asker.recv(600)), "a harmless name is not answered")
        asker.send(_question("www.c2.evil.example"))
        told = _attributed(scene.alert_of(EVIL_NAME), "acme/names")
        scene.until(lambda: not _answered(asker, "c2.evil.example"), "its answers go on arriving")
    return f"{told}\nfurther questions of that socket are not answered"


def _answered(asker: socket.socket, name: str) -> bool:
    with contextlib.suppress(OSError):
        while asker.recv(600, socket.MSG_DONTWAIT):
            pass
    try:
        asker.settimeout(0.3)
        asker.send(_question(name))
        return bool(asker.recv(600))
    except OSError:
        return False


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def _sni(scene: Scene, _: Claims) -> str:
    with scene.connect("acme", 443) as fine:
        fine.sendall(_hello("shop.example") + FINE)
        scene.until(
            lambda: scene.servers["acme"].received(fine.getsockname()) > len(FINE), "a harmless name is stopped"
        )
    with scene.connect("acme", 443) as bad:
        bad.sendall(_hello("blocked.example"))
        told = _attributed(scene.alert_of(BLOCKED_NAME), "acme/web")
        with contextlib.suppress(OSError):
            bad.sendall(BEHIND)
        arrived = scene.stopped(bad)
        require(arrived == 0, f"{arrived} bytes arrived behind it")
    return told


def _hello(name: str) -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def _not_looked_at(scene: Scene, _: Claims) -> str:
    with scene.connect("quiet", 80) as connection:
        connection.sendall(ATTACK + BEHIND)
        wanted = len(ATTACK + BEHIND)
        server = scene.servers["quiet"]
        scene.until(lambda: server.received(connection.getsockname()) == wanted, "it does not arrive")
    require(not scene.alerts(tenant="quiet"), "there are alerts of quiet's")
    return f"the same attack arrives, all {wanted} bytes of it, and nothing is raised"


def _killed(scene: Scene, _: Claims) -> str:
    pids = _inspectors(scene)
    require(bool(pids), "no inspector runs on h1")
    with scene.connect("acme", 80) as connection:
        connection.sendall(FINE)
        require(connection.recv(200).endswith(b"ok"), "no answer before")
        before = len(scene.alerts(WEB_ATTACK))
        for pid in pids:
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
        connection.sendall(FINE)
        require(connection.recv(200).endswith(b"ok"), "the connection does not outlive the inspector")
    scene.until(lambda: bool(_inspectors(scene) - pids), "it does not come back")
    with scene.connect("acme", 80) as bad:
        bad.sendall(ATTACK)
        scene.until(lambda: len(scene.alerts(WEB_ATTACK)) > before, "what comes afterwards is not seen")
    return "connections went on meanwhile, and the next attack is seen"


def _inspectors(scene: Scene) -> set[int]:
    """Inspectors below h1's agent."""
    agent = scene.lab.state.agents["h1"].pid
    found = set[int]()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
            if name.startswith("hostward-inspec") and agent in _ancestors(int(rest.split()[1])):
                found.add(int(status.parent.name))
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _samples(scene: Scene, claims: Claims) -> str:
    with scene.connect("acme", 5001) as bulk:
        for _ in range(400):
            bulk.sendall(bytes(1_000))
        sent = 400 * 1_000
        server = scene.servers["acme"]
        scene.until(lambda: server.received(bulk.getsockname()) == sent, "the stream does not arrive")
        ends = (bulk.getsockname()[1], 5001)
    own = [scene.lab.endpoint(f"acme/{name}").address(4) for name in ("client", "web")]

    def decoded() -> list[list[str]]:
        return [row for row in scene.dumped("sfcapd") if {row[0], row[1]} == set(own) and str(ends[1]) in row[2:4]]

    scene.until(lambda: bool(decoded()), "sfcapd has no sample of the stream")
    quiet = scene.lab.endpoint("quiet/web").address(4)
    require(not [row for row in scene.dumped("sfcapd") if quiet in row[:2]], "quiet is sampled")
    claims.figure("samples of one stream that nfdump decodes", str(len(decoded())))
    scene.sent = (ends[0], sent)
    return f"{len(decoded())} samples of the stream, none of quiet's"


def _records(scene: Scene, _: Claims) -> str:
    port, sent = scene.sent

    def bytes_of() -> int:
        return max(
            (int(row[6]) for row in scene.dumped("nfcapd") if row[2] == str(port) and row[3] == "5001"), default=0
        )

    scene.until(lambda: bytes_of() >= sent, f"nfcapd knows of {bytes_of()} bytes of {sent}")
    return f"nfdump decodes a record of the stream: {bytes_of():,} bytes of frames for {sent:,} of payload"


CLAIMS: tuple[tuple[str, Callable[[Scene, Claims], str]], ...] = (
    ("a web attack, sent in single bytes, is found, attributed and stopped", _single_bytes),
    ("a malicious name is found in DNS, and its flow stopped", _dns),
    ("a TLS connection to a blocked name is found and stopped", _sni),
    ("a tenant that asked for no inspection is not looked at", _not_looked_at),
    ("an inspector that is killed breaks nothing and comes back", _killed),
    ("sfcapd receives and decodes samples, of who asked for them alone", _samples),
    ("nfcapd receives and decodes flow records, of every byte", _records),
)
