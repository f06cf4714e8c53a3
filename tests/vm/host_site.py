"""What stands outside a whole host: its gate, the controller, a management network, and a node on the fabric.

Each has a namespace. The guest's taps lie in the gate's: one is the port that the gate guards, the other leads to the
management network, which a quarantined host has too. What passed the gate is judged by a socket of the node outside.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.controller.grant_key import open_grant_key, public_hex
from hostward.datapath.kernel import default_hook
from hostward.gate.identity import gate_fingerprint
from hostward.lab.controller import Operator, last_words
from hostward.lab.host import hostward_command
from hostward.lab.network import enter, ip_batch, make_namespace
from hostward.lab.processes import launch
from hostward.lab.tpm import root_certificate
from tests.netns.pair import in_namespace
from tests.vm.host_image import (
    CHANNEL_PORT,
    CONTROLLER,
    DEVICE,
    ENDPOINT,
    ENDPOINT_MAC,
    ENROLMENT_PORT,
    GATE_DOOR,
    GATE_PORT,
    HOST,
    OUTSIDE,
    PULSES_PORT,
    TALK_PORT,
)

MANAGEMENT_TAP, UPLINK_TAP = "management", "host0"
_GATE_CHANNEL = 7445
_START_LIMIT_S = 180.0
_BRIDGE = "type bridge mcast_snooping 0 stp_state 0 forward_delay 0"
# Long, because the machine is shared: what the test is about is told to the gate, and waits for no pulse to lapse.
_EVIDENCE_S, _GRACE_S, _PULSE_S, _CERTIFICATE_S = 5, 120, 15, 600
_POLICY = f"""
tenant: acme
groups:
  web: role=web
rules:
  - talk: allow web to internet on udp/{TALK_PORT}
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """A datagram at the node outside: who sent it, which of its, how many answers it had seen; seconds, monotonic."""

    at_s: float
    who: str
    number: int
    answered: int


class Node:
    """The node outside: answers every datagram, and remembers when it came."""

    def __init__(self, namespace: str) -> None:
        self._socket = in_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((OUTSIDE, TALK_PORT))
        self._heard: list[Heard] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def heard(self, who: str = "") -> list[Heard]:
        """All that came from one, or from anybody."""
        with self._more:
            return [each for each in self._heard if who in ("", each.who)]

    def forget(self) -> None:
        """Begin anew: senders count from each boot on."""
        with self._more:
            self._heard.clear()

    def await_heard(self, who: str, limit_s: float, holds: Callable[[Heard], bool] = lambda _: True) -> Heard:
        """The next datagram of somebody that is so."""
        first = len(self.heard())
        end_s = time.monotonic() + limit_s
        with self._more:
            while True:
                for each in self._heard[first:]:
                    if each.who == who and holds(each):
                        return each
                assert self._more.wait(max(0.0, end_s - time.monotonic())), f"nothing of {who} arrives"

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def _listen(self) -> None:
        self._socket.settimeout(0.2)
        while True:
            try:
                content, sender = self._socket.recvfrom(256)
                self._socket.sendto(content, sender)
            except TimeoutError:
                continue
            except OSError:
                return
            who, number, answered = content.decode().split()
            with self._more:
                self._heard.append(Heard(time.monotonic(), who, int(number), int(answered)))
                self._more.notify_all()


class HostSite:
    """Namespaces and daemons, until it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tag = uuid.uuid4().hex[:6]
        self._pins = Path(f"/sys/fs/bpf/hwvm-{self._tag}")
        self._stack = ExitStack()
        self.logs: dict[str, Path] = {}  # of the daemons

    @property
    def gate_namespace(self) -> str:
        return f"hwvg{self._tag}"

    def __enter__(self) -> HostSite:
        try:
            self._wire()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def start(self, authority: Path) -> None:
        """Gate and controller; hosts are those whose TPM this CA certified."""
        trust, state = self._folder / "trust", self._folder / "controller"
        for name in ("roots", "reference", "reference-keys"):
            (trust / name).mkdir(parents=True)
        (trust / "roots" / "maker.pem").write_bytes(root_certificate(authority))
        state.mkdir(mode=0o700)
        gate, controller = self._folder / "gate.toml", self._folder / "controller.toml"
        key = public_hex(open_grant_key(state))
        gate.write_text(
            f'name = "g1"\nlisten = "{GATE_DOOR}:{_GATE_CHANNEL}"\npulses = "{GATE_DOOR}:{PULSES_PORT}"\n'
            f'controller_keys = ["{key}"]\nstate = "{self._folder}/gate"\npins = "{self._pins}"\n'
            f'hook = "{default_hook()}"\n'
            f'[[ports]]\nname = "{GATE_PORT}"\nhost = "{UPLINK_TAP}"\nfabric = "fabric0"\n'
        )
        fingerprint = gate_fingerprint(self._folder / "gate")
        controller.write_text(
            f'state = "{state}"\nsocket = "{self._folder}/api"\naddress = "{CONTROLLER}"\n'
            f"channel_port = {CHANNEL_PORT}\nenrolment_port = {ENROLMENT_PORT}\n"
            # The firmware here has no Secure Boot, and what is good is learnt from the first boot.
            f'[attestation]\ntrust = "{trust}"\nwithout = ["secure-boot", "reference"]\n'
            f"evidence_s = {_EVIDENCE_S}\ngrace_s = {_GRACE_S}\npulse_s = {_PULSE_S}\n"
            f"certificate_life_s = {_CERTIFICATE_S}\n"
            f'[[attestation.gates]]\nname = "g1"\naddress = "{GATE_DOOR}:{_GATE_CHANNEL}"\n'
            f'fingerprint = "{fingerprint}"\nports = {{{GATE_PORT} = "{HOST}"}}\n'
        )
        self._stack.callback(shutil.rmtree, self._pins, ignore_errors=True)
        self._start("gate", self.gate_namespace, gate)
        self._start("controller", self._namespace("c"), controller)
        self.operator = Operator(self._folder / "api")
        self._stack.callback(self.operator.close)
        self.node = Node(self._namespace("o"))
        self._stack.callback(self.node.close)

    def token(self) -> str:
        """What the host joins by, once."""
        return str(self.operator.call("POST", "/v1/tokens", {"host": HOST})["token"])

    def attach_endpoint(self) -> None:
        """Policy, and the host's one endpoint; returns when it is enforced."""
        self.operator.apply([("acme.yaml", _POLICY)])
        words = {"tenant": "acme", "name": "web", "labels": {"role": "web"}, "host": HOST}
        place = {"device": DEVICE, "mac": ENDPOINT_MAC, "addresses": [ENDPOINT]}
        self.operator.call("POST", "/v1/endpoints", {**words, **place})
        self.operator.await_endpoints(["acme/web"])

    def learn(self) -> dict[str, Any]:
        """Make what the host is the reference, signed; returned when the host was judged by it and found good."""
        document: dict[str, Any] = self.operator.call("GET", f"/v1/attestation/{HOST}/reference")["document"]
        content = json.dumps(document).encode()
        signer, trust = Ed25519PrivateKey.generate(), self._folder / "trust"
        pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (trust / "reference-keys" / "operator.pem").write_bytes(pem)
        (trust / "reference" / "host.json").write_bytes(content)
        (trust / "reference" / "host.json.sig").write_bytes(signer.sign(content))
        self.operator.call("POST", "/v1/attestation/reload")
        self.await_host(lambda row: bool(row["reference"]) and row["evidence"] in ("good", "warning"))
        return document

    def host(self) -> dict[str, Any]:
        """The host's evidence, as operators see it."""
        rows = self.operator.call("GET", "/v1/attestation")
        return next((row for row in rows if row["name"] == HOST), {})

    def findings(self) -> list[dict[str, str]]:
        """What speaks against the host."""
        found = self.operator.call("GET", f"/v1/attestation/{HOST}")["findings"]
        return [each for each in found if each["tier"] == "contraindicated"]

    def await_host(self, holds: Callable[[dict[str, Any]], bool], limit_s: float = 120.0) -> dict[str, Any]:
        """The host's evidence, once it is so."""
        end_s = time.monotonic() + limit_s
        while True:
            row = self.host()
            if row and holds(row):
                return row
            assert time.monotonic() < end_s, row
            time.sleep(0.1)  # the API tells of no single host's evidence

    def _wire(self) -> None:
        for letter in "gco":
            namespace = self._namespace(letter)
            self._stack.callback(_remove, namespace)
            make_namespace(namespace)
        gate = self.gate_namespace
        ip_batch(
            gate,
            [
                f"link add br0 {_BRIDGE}",
                f"link add mgmt0 {_BRIDGE}",
                *(f"tuntap add dev {tap} mode tap" for tap in (MANAGEMENT_TAP, UPLINK_TAP)),
                f"link add fabric0 type veth peer name eth0 netns {self._namespace('o')}",
                f"link add controller0 type veth peer name eth0 netns {self._namespace('c')}",
                *(f"link set {name} master br0" for name in (UPLINK_TAP, "fabric0")),
                *(f"link set {name} master mgmt0" for name in (MANAGEMENT_TAP, "controller0")),
                f"addr add {GATE_DOOR}/24 dev mgmt0",
                *(f"link set {n} up" for n in ("br0", "mgmt0", MANAGEMENT_TAP, UPLINK_TAP, "fabric0", "controller0")),
            ],
        )
        ip_batch(self._namespace("c"), [f"addr add {CONTROLLER}/24 dev eth0", "link set eth0 up"])
        outside = (f"addr add {OUTSIDE}/24 dev eth0", "link set eth0 up", f"route add {ENDPOINT}/32 dev eth0")
        ip_batch(self._namespace("o"), outside)

    def _start(self, kind: str, namespace: str, config: Path) -> None:
        log = self.logs[kind] = self._folder / f"{kind}.log"
        started = launch([*enter(namespace), *hostward_command(kind, "--config", str(config))], log)
        self._stack.callback(started.kill)
        end_s = time.monotonic() + _START_LIMIT_S
        while not re.search(f"^{kind} .*ready", log.read_text(), re.MULTILINE):
            assert started.alive, last_words(log)
            assert time.monotonic() < end_s, f"the {kind} is not ready: {last_words(log)}"
            time.sleep(0.02)  # a log has no event

    def _namespace(self, letter: str) -> str:
        return f"hwv{letter}{self._tag}"


def _remove(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
