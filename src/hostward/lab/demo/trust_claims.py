"""Only attested hosts have a network: a lab of its own, in which each host has a TPM, a sentinel and a gate.

What is cut and when is seen at the far end: by a stream between two endpoints, whose hosts' gates lie between them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from hostward.errors import NotFoundError
from hostward.lab import network
from hostward.lab.controller import CHANNEL_PORT
from hostward.lab.demo.claims import Claims, require
from hostward.lab.host import network_of
from hostward.lab.lab import Lab, bring_up
from hostward.lab.processes import run
from hostward.lab.state import load_state, tear_down
from hostward.lab.topology import read_topology
from hostward.lab.tpm import make_tpm, start_tpm, tcti_of
from hostward.lab.traffic import DENIED_LIMIT_S, EchoServers, Probe, Stream
from hostward.lab.trust import GRACE_S, TPM_PORT

TOPOLOGY = Path("examples/attested/lab/topology.yaml")
WEB, APP = "acme/web-1", "acme/app-1"
BESIDE = "acme/web-2"  # on the same host as web-1
BAD, GOOD = "h1", "h2"  # whom everything is done to, and the other
_LIMIT_S = 30.0
# Less than is left of a grant when its renewal is due, with time for a slow machine to start a controller.
_AWAY_S = 7.0


def claim_all(claims: Claims, console: Console, file: Path) -> None:
    """The whole chapter, with its lab."""
    claims.chapter("Only attested hosts have a network")
    with contextlib.suppress(NotFoundError):
        tear_down(load_state(read_topology(file).name))
    started_s = time.monotonic()
    lab = bring_up(file, lambda text: console.print(f"[dim]{text}[/]"))
    claims.figure("attested lab up: TPMs made, booted, enrolled, granted", f"{time.monotonic() - started_s:.1f} s")
    try:
        with Scene(lab) as scene:
            for name, claim in CLAIMS:
                claims.hold(name, lambda claim=claim: claim(scene, claims))  # type: ignore[misc]
    finally:
        lab.close()
        tear_down(lab.state)


class Scene:
    """The lab, its servers, and what is looked at from outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.servers = EchoServers()

    def __enter__(self) -> Scene:
        app = self.lab.endpoint(APP)
        for address in app.addresses:
            self.servers.listen(self._namespace(APP), address, 8080, socket.SOCK_STREAM)
        self.servers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.servers.close()

    def _namespace(self, name: str) -> str:
        return f"/run/netns/{self.lab.namespace_of(self.lab.endpoint(name))}"

    def probe(self, version: int = 4, limit_s: float = DENIED_LIMIT_S) -> bool:
        """Whether web reaches app now."""
        web, app = self.lab.endpoint(WEB), self.lab.endpoint(APP)
        addresses = web.address(version), app.address(version)
        return Probe(self._namespace(WEB), *addresses, 8080, socket.SOCK_STREAM).reach(limit_s)

    def stream(self) -> Stream:
        """A stream from web to app."""
        web, app = self.lab.endpoint(WEB), self.lab.endpoint(APP)
        return Stream(self._namespace(WEB), web.address(4), app.address(4), 8080)

    def row(self, host: str = BAD) -> dict[str, Any]:
        """What `hostward attest status` says of a host."""
        rows: list[dict[str, Any]] = self.lab.operator.call("GET", "/v1/attestation")
        return next(row for row in rows if row["name"] == host)

    def until(self, holds: Callable[[], bool], otherwise: str, limit_s: float = _LIMIT_S) -> float:
        """Wait until something holds; for how long, in seconds."""
        started_s = time.monotonic()
        while not holds():
            require(time.monotonic() - started_s < limit_s, otherwise)
            time.sleep(0.02)
        return time.monotonic() - started_s

    def reaches_again(self) -> float:
        """Wait until the network is back."""
        return self.until(lambda: self.probe(limit_s=0.3), f"{WEB} does not reach {APP} again: {self.row()}")

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], float]]:
        """A stream that runs; what is yielded tells how long after the call of ``cut`` its last echo came."""
        stream = self.stream()
        require(stream.await_echoes(20, 10), "the stream does not begin")
        began_s = time.monotonic()

        def until_silent() -> float:
            last, at_s = stream.echoes, time.monotonic()
            while time.monotonic() - at_s < 0.7:
                require(time.monotonic() - began_s < _LIMIT_S, "the stream goes on")
                if stream.echoes != last:
                    last, at_s = stream.echoes, time.monotonic()
                time.sleep(0.002)
            return at_s - began_s

        try:
            yield until_silent
        finally:
            stream.close()


def _admitted(scene: Scene, claims: Claims) -> str:
    rows = [scene.row(host) for host in (BAD, GOOD)]
    for row in rows:
        require(
            row["state"] == "admitted" and row["evidence"] in ("good", "warning"), f"{row['name']}: {row['against']}"
        )
        require(row["measured"] == "software-measured", "a lab's evidence is not told apart")
    scene.until(
        lambda: all(gate["open"] for host in (BAD, GOOD) for gate in scene.row(host)["gates"]), "a gate is closed"
    )
    scene.reaches_again()
    require(scene.probe(6, 2.0), "nothing passes over IPv6")
    return "\n".join(f"{row['name']} is {row['host'][:16]}…, boot {row['boot']}, {row['measured']}" for row in rows)


def _sentinel_stopped(scene: Scene, claims: Claims) -> str:
    sentinel = scene.lab.state.others[f"sentinel-{BAD}"]
    with scene.watched() as until_silent:
        sentinel.kill()
        after_s = until_silent()
    require(not scene.probe(), "a new connection passes")
    why = scene.row()["gates"][0]["why"]
    scene.lab.trust.start_sentinel(BAD)
    back_s = scene.reaches_again()
    claims.figure("sentinel killed, until the last packet", f"{after_s:.2f} s (a pulse lives 2.5 s)")
    return f"the last packet came {after_s:.2f} s later; the gate: {why}; back {back_s:.1f} s after a new one started"


def _agent_returns(scene: Scene, claims: Claims) -> str:
    stream = scene.stream()
    try:
        require(stream.await_echoes(20, 10), "the stream does not begin")
        scene.lab.state.agents[BAD].kill()
        time.sleep(4)  # longer than a pulse lives, shorter than the sentinel's grace: this is the claim
        scene.lab.start_agents([BAD])
        require(stream.await_echoes(50, 10), "the stream broke")
        gap_s = stream.longest_gap_s
    finally:
        stream.close()
    claims.figure("longest gap of a stream while its agent was dead for 4 s", f"{gap_s * 1e3:.0f} ms")
    return f"the stream went on, longest gap {gap_s * 1e3:.0f} ms"


def _controller_away(scene: Scene, claims: Claims) -> str:
    state = scene.lab.state
    stream = scene.stream()
    try:
        require(stream.await_echoes(20, 10), "the stream does not begin")
        state.others["controller"].kill()
        time.sleep(_AWAY_S)
        scene.lab.restart_controller()
        require(stream.await_echoes(50, 10), "the stream broke")
        scene.until(lambda: scene.row()["evidence"] in ("good", "warning"), "the host does not attest again")
        require(stream.await_echoes(50, 10), "the stream broke when the controller came back")
        gap_s = stream.longest_gap_s
    finally:
        stream.close()
    return f"killed, and back after {_AWAY_S:.0f} s of its grants' {GRACE_S:.0f} s: longest gap {gap_s * 1e3:.0f} ms"


def _tampered(scene: Scene, claims: Claims) -> str:
    lab = scene.lab
    lab.state.agents[BAD].kill()  # it would mend what is done
    pins = lab.state.pins / BAD
    folder = next(path for path in pins.rglob("*") if path.is_dir() and path.name.endswith(BESIDE.replace("/", "@")))
    link = next(path for path in sorted(folder.iterdir()) if "link" in path.name)
    with scene.watched() as until_silent:
        link.unlink()  # the datapath closes that port by itself; the host is trusted no longer all the same
        after_s = until_silent()
    require(not scene.probe(), "a new connection passes")
    why = (lab.state.host_folder(BAD) / "sentinel.log").read_text().strip().splitlines()[-1]
    lab.start_agents([BAD])
    back_s = scene.reaches_again()
    claims.figure("a link of the datapath removed, until the host's last packet", f"{after_s:.2f} s")
    seen = f"{link.name} of {BESIDE} removed: the last packet of {WEB} came {after_s:.2f} s later"
    return f"{seen}\n{why[24:]}\nback {back_s:.1f} s after the agent returned"


def _object_written(scene: Scene, claims: Claims) -> str:
    lab = scene.lab
    target = lab.trust.objects(BAD) / "endpoint.bpf.o"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    with scene.watched() as until_silent:
        target.write_bytes(bytes(content))
        after_s = until_silent()
    row = scene.row()
    require(row["state"] == "untrusted", f"the host is {row['state']}")
    require(any("object:endpoint.bpf.o" in text for text in row["against"]), str(row["against"]))
    states = {each["id"]: each["state"] for each in lab.operator.objects("endpoints")}
    require(states[WEB] == "untrusted", f"{WEB} is {states[WEB]}")
    claims.figure("a measured file written, until the last packet", f"{after_s * 1e3:.0f} ms, software TPM")
    content[len(content) // 2] ^= 1
    target.write_bytes(bytes(content))
    seen = f"one bit of the running monitor's object flipped: the last packet came {after_s * 1e3:.0f} ms later"
    return f"{seen}\n{row['against'][-1]}"


def _rebooted(scene: Scene, claims: Claims) -> str:
    lab = scene.lab
    before = scene.row()["boot"]
    lab.state.agents[BAD].kill()
    lab.trust.boot(BAD)
    lab.start_agents([BAD])
    back_s = scene.reaches_again()
    after = scene.row()["boot"]
    require(after == before + 1, f"boot {after} after boot {before}")
    return f"boot {after}: admitted again, and its network is back {back_s:.1f} s after its agent"


def _impostor(kind: str, expected: str) -> Callable[[Scene, Claims], str]:
    def claim(scene: Scene, claims: Claims) -> str:
        lab = scene.lab
        lab.state.agents[BAD].kill()  # its certificate and its TPM are the attacker's now
        scene.until(lambda: not scene.row()["connected"], "the agent's connection stays")
        folder = lab.state.host_folder(BAD) / "state"
        holder = lab.state.holders[BAD]
        port, other = TPM_PORT, None
        if kind == "other-tpm":
            tpm = lab.state.folder / "other-tpm"
            make_tpm(tpm, lab.state.folder / "tpm-ca")  # genuine, of the same maker
            port += 2
            other = start_tpm(tpm, port, network_of(holder))
        try:
            said = _attempt(kind, folder, network_of(holder), tcti_of(port), scene.row()["revision"])
        finally:
            if other is not None:
                other.end()
        require(not said["good"] and not said["certificate"], f"it was taken for good: {said}")
        text: str = "; ".join(said.get("findings", [])) or str(said.get("closed"))
        require(expected in text, f"refused for another reason: {text}")
        if kind == "rollback":
            lab.trust.boot(BAD)  # what the PCR holds, only a boot takes away
        lab.start_agents([BAD])
        scene.reaches_again()
        return text

    return claim


def _attempt(kind: str, folder: Path, namespace: str, tcti: str, revision: int) -> dict[str, Any]:
    """With the host's certificate and in its network; what the controller made of it."""
    controller = f"{network.CONTROLLER_ADDRESS}:{CHANNEL_PORT}"
    program = [sys.executable, "-m", "hostward.lab.impostor"]
    arguments = [kind, controller, str(folder / "agent"), tcti, str(folder / "boot"), str(revision)]
    found: dict[str, Any] = json.loads(run([*network.enter(namespace), *program, *arguments], limit_s=60))
    return found


def _operator(scene: Scene, claims: Claims) -> str:
    call = scene.lab.operator.call
    with scene.watched() as until_silent:
        call("POST", f"/v1/hosts/{BAD}/quarantined")
        after_s = until_silent()
    call("POST", f"/v1/hosts/{BAD}/admitted")
    back_s = scene.reaches_again()
    return f"quarantined by command: the last packet came {after_s * 1e3:.0f} ms later; admitted: back after {back_s:.1f} s"


CLAIMS: list[tuple[str, Callable[[Scene, Claims], str]]] = [
    ("hosts boot, enrol by their TPMs, are admitted, and their gates open", _admitted),
    ("a stopped sentinel: the gate closes by itself", _sentinel_stopped),
    ("a killed agent that returns in time breaks nothing", _agent_returns),
    ("the controller away for less than the grace breaks nothing", _controller_away),
    ("a link of the datapath is taken away while the agent is dead: the network is gone", _tampered),
    ("a measured file of the running monitor is written: the network is gone", _object_written),
    ("a reboot is a new epoch, and brings the host back", _rebooted),
    ("an impostor with another genuine TPM is refused", _impostor("other-tpm", "its TPM is")),
    ("a replayed quote is refused", _impostor("replay", "quote.fresh")),
    ("a relayed quote buys no channel", _impostor("relay", "quote.fresh")),
    ("a rolled-back monitor is refused", _impostor("rollback", "monitor.component")),
    ("an operator's quarantine cuts a host off, and ends", _operator),
]
