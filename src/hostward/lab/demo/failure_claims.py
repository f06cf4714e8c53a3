"""What is taken away: agents, pins, devices. Nothing unfiltered passes, and untouched streams do not break."""

from __future__ import annotations

import shutil
import time

from hostward.lab import network
from hostward.lab.demo.attack_claims import repelled
from hostward.lab.demo.change_claims import with_added_rule
from hostward.lab.demo.claims import Claims, require
from hostward.lab.demo.stage import APP, DB, EVIL, TCP, UDP, WEB, Stage
from hostward.lab.host import network_of
from hostward.lab.traffic import DENIED_LIMIT_S, Stream

_CLOSING_LIMIT_S = 5.0


def claim_all(claims: Claims, stage: Stage) -> None:
    """The whole chapter: two streams run through all of it."""
    claims.chapter("Agents killed, a pin removed, a device moved")
    streams = [stage.stream(WEB, APP, 8080), stage.stream(APP, DB, 5432, 6)]
    try:
        stage.lab.kill_agents()
        claims.hold(
            "every agent is killed by SIGKILL: the streams go on, and new flows are decided", lambda: _orphaned(stage)
        )
        claims.hold(f"without agents nothing of {EVIL[0]} arrives at {APP}", lambda: _attacked(stage, EVIL[0], APP))
        claims.hold(f"the pins of {EVIL[2]}'s port are removed by hand: the port closes", lambda: _unpinned(stage))
        claims.hold(f"{EVIL[1]}'s device is moved into the fabric: nothing unfiltered passes", lambda: _moved(stage))
        claims.hold("the agents come back, mend what was taken, and take a change", lambda: _back(stage))
        claims.hold("no stream on an untouched port broke", lambda: _unbroken(claims, streams))
    finally:
        for stream in streams:
            stream.close()


def _orphaned(stage: Stage) -> str:
    require(not any(agent.alive for agent in stage.lab.state.agents.values()), "an agent lives")
    require(stage.probe(WEB, APP, 8080, TCP, 4).reach(), f"{WEB} no longer reaches {APP}")
    require(stage.probe(APP, DB, 5432, TCP, 6).reach(), f"{APP} no longer reaches {DB}")
    stage.denied(WEB, DB, 5432, TCP, 4)
    return "a new allowed connection is answered, a denied one does not arrive"


def _attacked(stage: Stage, attacker: str, victim: str) -> str:
    seen = stage.attack(attacker, victim, WEB)
    arrived = [name for name, (_, there) in seen.items() if there]
    require(not arrived, f"arrived: {', '.join(arrived)}")
    return f"{sum(sent for sent, _ in seen.values())} frames sent, 0 at the sink"


def _unpinned(stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[2])
    pins = stage.lab.state.pins / endpoint.host
    found = [
        path for path in pins.rglob("*") if path.is_dir() and path.name.endswith(f"@{endpoint.tenant}@{endpoint.name}")
    ]
    require(bool(found), f"no pins of {EVIL[2]} under {pins}")
    require(stage.probe(EVIL[2], EVIL[0], 9000, TCP, 4).reach(), f"{EVIL[2]} does not reach its own tenant before")
    for path in found:
        shutil.rmtree(path)
    # The kernel lets a link go in its own time: until then the policy decides, and after that the closed base does.
    meanwhile = _attacked(stage, EVIL[2], DB)
    deadline_s = time.monotonic() + _CLOSING_LIMIT_S
    while stage.probe(EVIL[2], EVIL[0], 9000, TCP, 4).reach(DENIED_LIMIT_S):
        require(time.monotonic() < deadline_s, "its allowed traffic still passes")
    return f"at once: {meanwhile}; then what was allowed is denied too, and {_attacked(stage, EVIL[2], DB)}"


def _moved(stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[1])
    host, fabric = network_of(stage.lab.state.holders[endpoint.host]), stage.lab.state.namespace("fabric")
    network.move_device(host, endpoint.device, f"/run/netns/{fabric}")
    network.ip_batch(fabric, [f"link set {endpoint.device} master {network.BRIDGE} up"])
    return f"its wire now ends in the fabric's own bridge; {_attacked(stage, EVIL[1], APP)}"


def _back(stage: Stage) -> str:
    endpoint = stage.lab.endpoint(EVIL[1])
    host, fabric = network_of(stage.lab.state.holders[endpoint.host]), stage.lab.state.namespace("fabric")
    stage.lab.start_agents(stage.lab.topology.hosts)
    network.move_device(fabric, endpoint.device, host)
    network.ip_batch(host, [f"link set {endpoint.device} master {network.BRIDGE}"])
    stage.lab.operator.await_endpoints(list(stage.lab.topology.endpoints))
    require(stage.probe(EVIL[2], EVIL[0], 9000, TCP, 4).reach(), f"{EVIL[2]} does not reach its own tenant again")
    require(stage.probe(EVIL[1], EVIL[0], 9000, TCP, 4).reach(), f"{EVIL[1]} does not reach its own tenant again")
    added, before = with_added_rule(stage)
    stage.lab.operator.apply([added])
    try:
        require(stage.probe(WEB, APP, 9125, UDP, 4).reach(), "a rule that is added now is not enforced")
    finally:
        stage.lab.operator.apply([before])
    mended = "; ".join(str(h["last_repair"]) for h in stage.lab.operator.objects("hosts") if h["last_repair"])
    return f"mended: {mended or 'at the start'}\n{repelled(stage, EVIL[2], DB, APP)}"


def _unbroken(claims: Claims, streams: list[Stream]) -> str:
    for stream in streams:
        require(stream.await_echoes(20, 5), "a stream broke")
    gap_s = max(stream.longest_gap_s for stream in streams)
    claims.figure("longest gap of a stream while agents were away", f"{gap_s * 1e3:.0f} ms")
    return f"{' and '.join(str(stream.echoes) for stream in streams)} echoes, longest gap {gap_s * 1e3:.0f} ms"
