"""Changes while traffic runs: a rule revoked, a peer relabelled, a rule added."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from hostward.lab.demo.claims import Claims, require
from hostward.lab.demo.stage import APP, DB, UDP, WEB, Stage
from hostward.lab.traffic import Stream

_WEB_TO_APP = "  - tiers: allow web to app on tcp/8080-8089\n"
_ADDED = "  - added: allow web to app on udp/9125\n"
# After a change was acknowledged by every host, a stream gets this long to show that it goes on.
_QUIET_S = 1.0
_ROUNDS = 11


def claim_all(claims: Claims, stage: Stage) -> None:
    """The whole chapter."""
    claims.chapter("Changes hold established flows at once")
    claims.hold("a rule is revoked, and the stream that it allowed stops; others go on", lambda: _revoke(claims, stage))
    claims.hold("a peer is relabelled, and its live stream stops", lambda: _relabel(stage))
    claims.hold("a rule is added, and the first packet follows", lambda: _add(claims, stage))


def with_added_rule(stage: Stage) -> tuple[tuple[str, str], tuple[str, str]]:
    """acme's file with `web to app on udp/9125`, and as it stands."""
    name, text = _acme(stage)
    return (name, text.replace(_WEB_TO_APP, _WEB_TO_APP + _ADDED)), (name, text)


def _acme(stage: Stage) -> tuple[str, str]:
    path = next(path for path in stage.lab.topology.policy if path.name == "acme.yaml")
    return str(path), Path(path).read_text()


def _stops(stream: Stream) -> str:
    before = stream.echoes
    # One echo may have been on its way when the hosts acknowledged.
    require(not stream.await_echoes(2, _QUIET_S), f"the stream goes on: {stream.echoes - before} further echoes")
    return f"{before} echoes before, {stream.echoes - before} in the {_QUIET_S:.0f} s after every host acknowledged"


def _revoke(claims: Claims, stage: Stage) -> str:
    name, text = _acme(stage)
    require(_WEB_TO_APP in text, "the rule to revoke is not in acme.yaml")
    cut, other = stage.stream(WEB, APP, 8080), stage.stream(APP, DB, 5432)
    try:
        require(cut.await_echoes(20, 5) and other.await_echoes(20, 5), "the streams do not run")
        answer = stage.lab.operator.apply([(name, text.replace(_WEB_TO_APP, ""))])
        slowest_ms = max(host["enforced_ms"] for host in answer["hosts"])
        claims.figure("revocation to enforced on all hosts", f"{slowest_ms:.1f} ms")
        seen = _stops(cut)
        require(other.await_echoes(20, 5), f"the stream from {APP} to {DB} broke")
        gap_ms = other.longest_gap_s * 1e3
        return f"{seen}\nrevision {answer['revision']}; {APP} to {DB} went on, longest gap {gap_ms:.0f} ms"
    finally:
        stage.lab.operator.apply([(name, text)])
        cut.close()
        other.close()


def _relabel(stage: Stage) -> str:
    stream = stage.stream(WEB, APP, 8080)
    try:
        require(stream.await_echoes(20, 5), "the stream does not run")
        answer = stage.lab.operator.call("PATCH", f"/v1/endpoints/{WEB}", {"labels": {"role": "retired"}})
        return f"{_stops(stream)}; revision {answer['revision']}"
    finally:
        stage.lab.operator.call("PATCH", f"/v1/endpoints/{WEB}", {"labels": {"role": "web"}})
        stream.close()


def _add(claims: Claims, stage: Stage) -> str:
    """Datagrams are sent all the time; the first that comes back after `apply` began ends the measurement."""
    added, before = with_added_rule(stage)
    took_ms: list[float] = []
    enforced_ms: list[float] = []
    require(not stage.probe(WEB, APP, 9125, UDP, 4).reach(0.2), "it is allowed before the rule is there")
    try:
        for _ in range(_ROUNDS):
            started_s = time.monotonic()
            answer = stage.lab.operator.apply([added])
            enforced_ms.append(max(host["enforced_ms"] for host in answer["hosts"]))
            while not stage.probe(WEB, APP, 9125, UDP, 4).reach(0.02):
                require(time.monotonic() < started_s + 5, "no packet passes under the added rule")
            took_ms.append((time.monotonic() - started_s) * 1e3)
            stage.lab.operator.apply([before])
    finally:
        stage.lab.operator.apply([before])
    first = f"median {statistics.median(took_ms):.0f} ms, worst {max(took_ms):.0f} ms of {_ROUNDS}"
    claims.figure("apply to first packet answered under the new rule", first)
    enforced = f"median {statistics.median(enforced_ms):.1f} ms, worst {max(enforced_ms):.1f} ms"
    claims.figure("apply to enforced on all three hosts", enforced)
    return f"apply to first answer: {first}; to enforced on all hosts: {enforced}"
