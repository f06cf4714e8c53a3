"""What is taken away: agents, a device, pins. Nothing unfiltered passes, and a gate cuts off who is no longer proven.

An agent may be away for the sentinel's grace, and no longer. Between endpoints of one host there is no gate: there the
datapath goes on alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from hostward.lab import network
from hostward.lab.demo.attack_claims import repelled
from hostward.lab.demo.change_claims import with_added_rule
from hostward.lab.demo.claims import Claims, require
from hostward.lab.demo.stage import APP, DB, EVIL, TCP, UDP, WEB, WEB_2, Stage, Wire
from hostward.lab.host import network_of
from hostward.lab.traffic import DENIED_LIMIT_S, Stream
from hostward.lab.trust import PULSE_S, RESTART_GRACE_S

_CLOSING_LIMIT_S = 5.0
_BACK_LIMIT_S = 30.0
# A stream is cut when nothing came back for so long; a loaded machine makes gaps, too.
_SILENCE_S = 1.5
_LOOK_S = 0.002
# A second until the sentinel's next look, then what it said last has to end.
_CUT_LIMIT_S = 1.5 + PULSE_S + _SILENCE_S


def claim_all(claims: Claims, stage: Stage) -> None:
    """The whole chapter: one stream, which stays on a host, runs through all of it."""
    claims.chapter("Agents killed, a device moved, a pin removed")
    local, streams = stage.stream(WEB_2, APP, 8080), [stage.stream(WEB, APP, 8080), stage.stream(APP, DB, 5432, 6)]
    try:
        _proven(stage)
        stage.lab.kill_agents()
        claims.hold(
            "every agent is killed by SIGKILL: the streams go on, and new flows are decided", lambda: _orphaned(stage)
        )
        claims.hold(f"without agents nothing of {EVIL[0]} arrives at {APP}", lambda: _attacked(stage, EVIL[0], APP))
        claims.hold("the agents come back within the grace: no stream broke", lambda: _returned(claims, stage, streams))
        claims.hold(
            f"agents stay dead for longer than the grace of {RESTART_GRACE_S:.0f} s: the network is gone",
            lambda: _gone(claims, stage, streams),
        )
        claims.hold("the agents come back, and the network with them", lambda: _network_back(claims, stage))
        claims.hold(
            f"{EVIL[1]}'s device is moved into the fabric: nothing unfiltered passes, and its host is cut off",
            lambda: _moved(claims, stage),
        )
        claims.hold("the device comes back, and with its agent the host's network", lambda: _moved_back(stage))
        claims.hold(
            f"the pins of {EVIL[2]}'s port are removed by hand: the port closes, and its host is cut off",
            lambda: _unpinned(claims, stage),
        )
        claims.hold("the agent comes back, mends what was taken, and takes a change", lambda: _back(stage))
        claims.hold(f"the stream from {WEB_2} to {APP}, within one host, never broke", lambda: _unbroken(claims, local))
    finally:
        for stream in (local, *streams):
            stream.close()


def _orphaned(stage: Stage) -> str:
    require(not any(agent.alive for agent in stage.lab.state.agents.values()), "an agent lives")
    require(stage.probe(WEB, APP, 8080, TCP, 4).reach(), f"{WEB} no longer reaches {APP}")
    require(stage.probe(APP, DB, 5432, TCP, 6).reach(), f"{APP} no longer reaches {DB}")
    stage.denied(WEB, DB, 5432, TCP, 4)
    return "a new allowed connection is answered, a denied one does not arrive"


def _attacked(stage: Stage, attacker: str, victim: str, borrowed: str = WEB, wire: Wire | None = None) -> str:
    seen = stage.attack(attacker, victim, borrowed, wire)
    arrived = [name for name, (_, there) in seen.items() if there]
    require(not arrived, f"arrived: {', '.join(arrived)}")
    return f"{sum(sent for sent, _ in seen.values())} frames sent, 0 at the sink"


def _returned(claims: Claims, stage: Stage, streams: list[Stream]) -> str:
    stage.lab.start_agents(stage.lab.topology.hosts)
    for stream in streams:
        require(stream.await_echoes(20, 5), "a stream broke")
    gap_s = max(stream.longest_gap_s for stream in streams)
    claims.figure("longest gap of a stream while all agents were away", f"{gap_s * 1e3:.0f} ms")
    return f"{' and '.join(str(stream.echoes) for stream in streams)} echoes, longest gap {gap_s * 1e3:.0f} ms"


def _gone(claims: Claims, stage: Stage, streams: list[Stream]) -> str:
    _proven(stage)
    stage.lab.kill_agents()
    killed_s = time.monotonic()
    limit_s = RESTART_GRACE_S + _CUT_LIMIT_S
    after_s = [_silent(stream, killed_s, limit_s) for stream in streams]
    require(min(after_s) >= RESTART_GRACE_S - 1, f"a stream was cut after {min(after_s):.1f} s already")
    require(not stage.probe(WEB, APP, 8080, TCP, 4).reach(DENIED_LIMIT_S), f"{WEB} still reaches {APP}")
    require(stage.probe(WEB_2, APP, 8080, TCP, 4).reach(), f"{WEB_2} does not reach {APP} on its own host")
    claims.figure(
        "all agents dead, until the last packet", f"{max(after_s):.1f} s (a grace of {RESTART_GRACE_S:.0f} s)"
    )
    told = " and ".join(f"{each:.1f}" for each in after_s)
    return f"the last packets came {told} s later; {WEB_2} and {APP}, on one host, go on\n{_words(stage, 'h1')}"


def _network_back(claims: Claims, stage: Stage) -> str:
    started_s = time.monotonic()
    stage.lab.start_agents(stage.lab.topology.hosts)
    _until_reached(stage)
    back_s = time.monotonic() - started_s
    claims.figure("agents started again, until the network is back", f"{back_s:.1f} s")
    return f"new connections pass {back_s:.1f} s after the agents' start"


def _moved(claims: Claims, stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[1])
    host, fabric = _wires(stage, endpoint.host)
    _proven(stage)
    stream = stage.stream(WEB, APP, 8080)
    try:
        require(stream.await_echoes(20, 5), "the stream does not begin")
        stage.lab.state.agents[endpoint.host].kill()  # it would mend what is done
        network.move_device(host, endpoint.device, f"/run/netns/{fabric}")
        moved_s = time.monotonic()
        network.ip_batch(fabric, [f"link set {endpoint.device} master {network.BRIDGE} up"])
        meanwhile = _attacked(stage, EVIL[1], DB, APP, stage.outside())
        after_s = _silent(stream, moved_s, _CUT_LIMIT_S)
    finally:
        stream.close()
    claims.figure("a device moved away, until its host's last packet", f"{after_s:.2f} s")
    cut = f"the last packet of {endpoint.host} came {after_s:.2f} s later\n{_words(stage, endpoint.host)}"
    return f"its wire now ends in the fabric's own bridge; {meanwhile}\n{cut}"


def _moved_back(stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[1])
    host, fabric = _wires(stage, endpoint.host)
    network.move_device(fabric, endpoint.device, host)
    network.ip_batch(host, [f"link set {endpoint.device} master {network.BRIDGE}"])
    started_s = time.monotonic()
    stage.lab.start_agents([endpoint.host])
    stage.lab.operator.await_endpoints(list(stage.lab.topology.endpoints))
    _until_reached(stage)
    back_s = time.monotonic() - started_s
    require(stage.probe(EVIL[1], EVIL[0], 9000, TCP, 4).reach(), f"{EVIL[1]} does not reach its own tenant again")
    return f"back {back_s:.1f} s after the agent's start"


def _unpinned(claims: Claims, stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[2])
    pins = stage.lab.state.pins / endpoint.host
    found = [
        path for path in pins.rglob("*") if path.is_dir() and path.name.endswith(f"@{endpoint.tenant}@{endpoint.name}")
    ]
    require(bool(found), f"no pins of {EVIL[2]} under {pins}")
    _proven(stage)
    stream = stage.stream(APP, DB, 5432)
    try:
        require(stream.await_echoes(20, 5), "the stream does not begin")
        stage.lab.state.agents[endpoint.host].kill()
        require(stage.leaves(EVIL[2], EVIL[0], 9000), f"{EVIL[2]}'s allowed traffic does not leave its host before")
        removed_s = time.monotonic()
        for path in found:
            shutil.rmtree(path)
        # The kernel lets a link go in its own time: until then the policy decides, and after that the closed base does.
        meanwhile = _attacked(stage, EVIL[2], DB, APP, stage.within(endpoint.host))
        while stage.leaves(EVIL[2], EVIL[0], 9000):
            require(time.monotonic() < removed_s + _CLOSING_LIMIT_S, "its allowed traffic still passes")
        after_s = _silent(stream, removed_s, _CLOSING_LIMIT_S)
    finally:
        stream.close()
    claims.figure("a port's pins removed, until its host's last packet", f"{after_s:.2f} s")
    later = _attacked(stage, EVIL[2], DB, APP, stage.within(endpoint.host))
    cut = f"the last packet of {endpoint.host} came {after_s:.2f} s later\n{_words(stage, endpoint.host)}"
    return f"at once: {meanwhile}; then what was allowed does not leave the host either, and {later}\n{cut}"


def _back(stage: Stage) -> str:
    stage.lab.start_agents([stage.lab.endpoint(EVIL[2]).host])
    stage.lab.operator.await_endpoints(list(stage.lab.topology.endpoints))
    _until_reached(stage)
    require(stage.probe(EVIL[2], EVIL[0], 9000, TCP, 4).reach(), f"{EVIL[2]} does not reach its own tenant again")
    added, before = with_added_rule(stage)
    stage.lab.operator.apply([added])
    try:
        require(stage.probe(WEB, APP, 9125, UDP, 4).reach(), "a rule that is added now is not enforced")
    finally:
        stage.lab.operator.apply([before])
    mended = "; ".join(str(h["last_repair"]) for h in stage.lab.operator.objects("hosts") if h["last_repair"])
    return f"mended: {mended or 'at the start'}\n{repelled(stage, EVIL[2], DB, APP)}"


def _unbroken(claims: Claims, stream: Stream) -> str:
    require(stream.await_echoes(20, 5), "the stream broke")
    gap_ms = stream.longest_gap_s * 1e3
    claims.figure("longest gap of a stream within a host, whole chapter", f"{gap_ms:.0f} ms")
    return f"{stream.echoes} echoes, longest gap {gap_ms:.0f} ms"


# -- what is looked at


def _proven(stage: Stage) -> None:
    """Before an agent is killed: what is in force was attested, so that only what is done now can cut a host off."""
    stage.lab.trust.await_proven(stage.lab.operator)


def _silent(stream: Stream, since_s: float, limit_s: float) -> float:
    """Wait until nothing comes back any more; when the last echo came, in seconds after ``since_s``."""
    while time.monotonic() - stream.last_echo_s < _SILENCE_S:
        require(time.monotonic() - since_s < limit_s, f"the stream goes on after {limit_s:.0f} s")
        time.sleep(_LOOK_S)
    return max(stream.last_echo_s - since_s, 0.0)


def _until_reached(stage: Stage) -> None:
    """Return once new connections pass over every host's gate."""
    ways: list[Callable[[], bool]] = [
        lambda: stage.probe(WEB, APP, 8080, TCP, 4).reach(DENIED_LIMIT_S),
        lambda: stage.probe(APP, DB, 5432, TCP, 6).reach(DENIED_LIMIT_S),
    ]
    deadline_s = time.monotonic() + _BACK_LIMIT_S
    while not all(way() for way in ways):
        require(time.monotonic() < deadline_s, f"the network is not back: {_gates(stage)}")


def _gates(stage: Stage) -> str:
    rows = stage.lab.operator.call("GET", "/v1/attestation")
    return "; ".join(f"{row['name']}: {gate['why'] or 'open'}" for row in rows for gate in row["gates"])


def _words(stage: Stage, host: str) -> str:
    """What a host's sentinel said last, without its date."""
    said = (stage.lab.state.host_folder(host) / "sentinel.log").read_text().strip().splitlines()
    return f"sentinel of {host}: {said[-1][24:] if said else 'silent'}"


def _wires(stage: Stage, host: str) -> tuple[str, str]:
    return network_of(stage.lab.state.holders[host]), stage.lab.state.namespace("fabric")
