"""How soon 10,000 live streams stop once a revision that revokes their rule reaches their host, and that others go on.

Real TCP connections through both ports of one host, and half as many again that a rule with `keep` opened. Every stream
sends all the time, so a revoked one's last data at the server's device says when it was cut off; time runs from the call
that hands the revision to the host's enforcer. The streams that are kept prove that the sink and the senders were alive
meanwhile, and what the datapath denies, that the others went on trying.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TypedDict

from bench.commands import BenchError, inside
from bench.policy import CLIENT, HOST, MACS, SERVER, TENANT
from bench.topology import Topology, built
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Endpoint, EndpointState, Port, Quota
from hostward.model.slice import HostSlice
from hostward.policy import PolicySet, compile_policy, parse_sources
from hostward.policy.numbers import Numbers
from hostward.policy.revocation import remember_revoked

TARGET_MS = 100.0
STREAMS = 10_000  # that are revoked
REVOKED_PORT, KEPT_PORT = 8001, 8002
_BPFFS = Path("/sys/fs/bpf")
_PROGRAM = Path(__file__).with_name("streams.py")
_QUOTA = Quota(flows=65_536)
_CAPACITY = Capacity(endpoints=4, flows=2 * _QUOTA.flows)
_COMPILED_AT = datetime(2026, 1, 1, tzinfo=UTC)
# Every stream has sent twice before it is revoked, and for so long afterwards; TCP sends again within a fifth of it.
_ROUNDS_BEFORE, _AFTER_S = 2.0, 1.5
_HEAD = f"tenant: {TENANT}\ngroups: {{clients: role=client, servers: role=server}}\n"
_RULES = f"""rules:
  - revoked: allow clients to servers on tcp/{REVOKED_PORT}
  - kept: allow clients to servers on tcp/{KEPT_PORT} keep
"""


@dataclass(frozen=True, slots=True)
class Cut:
    """One revocation. ``stopped_ms`` has a number for each revoked stream: 0, if nothing of it came after the revision."""

    stopped_ms: tuple[float, ...]
    enforced_ms: float  # the call itself
    late: int  # packets of revoked streams after the call had returned
    denied: int  # packets of revoked streams that the datapath counted
    kept: int  # streams that were to go on
    carried_on: int  # and did, after the call had returned
    round_ms: float  # how long every stream takes to send once


class _Told(TypedDict):
    """What streams.py saw: for each stream its port, last arrival, and packets before and since enforcement."""

    streams: list[tuple[int, int, int, int]]
    seen: int
    missed: int


def run(cuts: int, say: Callable[[str], None], revoked: int = STREAMS) -> tuple[Cut, ...]:
    """Revoke so many streams, an even number, each time in a network of its own.

    Raises BenchError. Nothing is left behind.
    """
    measured = []
    for number in range(cuts):
        with built(f"{os.getpid()}-cut") as topology, _enforcer() as enforcer:
            measured.append(_cut(topology, enforcer, revoked))
        say(f"  {number + 1} of {cuts}: enforced in {measured[-1].enforced_ms:.1f} ms")
    return tuple(measured)


def as_json(cuts: tuple[Cut, ...]) -> dict[str, object]:
    """For the result file."""
    return {
        "unit": "ms",
        "revoked": len(cuts[0].stopped_ms),
        "target_p99": TARGET_MS,
        "revision_to_last_packet": _distribution(_all(cuts)),
        "enforced": [round(cut.enforced_ms, 2) for cut in cuts],
        "packets_after_enforced": [cut.late for cut in cuts],
        "denied_packets": [cut.denied for cut in cuts],
        "kept": [cut.kept for cut in cuts],
        "kept_that_carried_on": [cut.carried_on for cut in cuts],
        "round": [round(cut.round_ms, 1) for cut in cuts],
    }


def table(cuts: tuple[Cut, ...]) -> list[str]:
    """For people."""
    figures = _distribution(_all(cuts))
    revoked, kept = len(cuts[0].stopped_ms), cuts[0].kept
    met = figures["p99"] <= TARGET_MS and not any(cut.late for cut in cuts)
    return [
        f"{len(cuts)} revocations of {revoked:,} live streams beside {kept:,} kept ones: ms"
        "  minimum   median      p99    worst",
        f"{'revision to last packet':<62}"
        + "".join(f"{figures[key]:>9.1f}" for key in ("minimum", "median", "p99", "worst")),
        f"packets of revoked streams after enforcement returned: {sum(cut.late for cut in cuts)}; "
        f"kept streams that went on: {sum(cut.carried_on for cut in cuts):,} of {sum(cut.kept for cut in cuts):,}",
        f"target: p99 at most {TARGET_MS:g} ms, and nothing later: {'met' if met else 'missed'}",
    ]


def _all(cuts: tuple[Cut, ...]) -> list[float]:
    return [value for cut in cuts for value in cut.stopped_ms]


def _distribution(values: list[float]) -> dict[str, float]:
    return {
        "minimum": round(min(values), 2),
        "median": round(median(values), 2),
        "p99": round(quantiles(values, n=100, method="inclusive")[98], 2),
        "worst": round(max(values), 2),
    }


@contextmanager
def _enforcer() -> Iterator[KernelEnforcer]:
    try:
        pins = Path(tempfile.mkdtemp(prefix="hostward-bench-", dir=_BPFFS))
    except OSError as error:
        raise BenchError(str(error), subject=str(_BPFFS), hint="mount bpffs there: scripts/mounts") from error
    try:
        enforcer = open_enforcer(pins, capacity=_CAPACITY)
        yield enforcer
        enforcer.close()
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def _slices(topology: Topology) -> tuple[HostSlice, HostSlice]:
    """With both rules, and with none, as the real compiler gives them to the host."""
    endpoints = tuple(
        Endpoint(
            TENANT,
            name,
            {"role": name},
            MACS[name],
            tuple(addresses.values()),
            HOST,
            Port(topology.port(name), topology.router),
            quota=_QUOTA,
        )
        for name, addresses in (("client", CLIENT), ("server", SERVER))
    )
    before = _read(_RULES)
    first = compile_policy(before, endpoints, Numbers.empty(), _COMPILED_AT)
    after = remember_revoked(before, _read("rules: []\n"), _COMPILED_AT)
    second = compile_policy(after, endpoints, first.numbers, _COMPILED_AT)
    return first.slice_for(HOST, revision=1), second.slice_for(HOST, revision=2)


def _read(rules: str) -> PolicySet:
    return parse_sources([("bench.yaml", (_HEAD + rules).encode())])


def _cut(topology: Topology, enforcer: KernelEnforcer, revoked: int) -> Cut:
    allowing, revoking = _slices(topology)
    for name, status in enforcer.enforce(allowing).items():
        if status.state is not EndpointState.ENFORCED:
            raise BenchError(f"is {status.state.value}: {status.reason}", subject=name)
    streams = revoked + revoked // 2
    ports = (str(REVOKED_PORT), str(REVOKED_PORT), str(KEPT_PORT))  # dealt out in turn
    with ExitStack() as ends:
        server = ends.enter_context(_program(topology.server, "serve", str(streams), *ports))
        _expect(server, "listening")
        client = ends.enter_context(_program(topology.client, "send", SERVER[4], str(streams), *ports))
        _expect(client, "ready")
        _expect(server, "ready")
        _say(client, "go")
        round_s = float(_line(client))
        time.sleep(_ROUNDS_BEFORE * round_s)
        denied_before = _denied(enforcer)
        reached_ns = time.time_ns()
        enforcer.enforce(revoking)
        enforced_ns = time.time_ns()
        time.sleep(max(_AFTER_S, _ROUNDS_BEFORE * round_s))
        denied = _denied(enforcer) - denied_before
        _say(server, json.dumps({"since_ns": enforced_ns}))
        told: _Told = json.loads(_line(server))
    return _judge(told, streams, reached_ns, enforced_ns, denied, round_s)


def _judge(told: _Told, streams: int, reached_ns: int, enforced_ns: int, denied: int, round_s: float) -> Cut:
    """Raises BenchError where the figures would mean nothing."""
    if told["missed"]:
        raise BenchError(f"missed {told['missed']} of {told['seen']} packets", subject="the sink")
    by_port = {port: [entry for entry in told["streams"] if entry[0] == port] for port in (REVOKED_PORT, KEPT_PORT)}
    live = sum(1 for entries in by_port.values() for entry in entries if entry[2])
    if live != streams:
        raise BenchError(f"only {live:,} of {streams:,} streams carried data before the revision", subject="streams.py")
    revoked, kept = by_port[REVOKED_PORT], by_port[KEPT_PORT]
    if denied < len(revoked):
        raise BenchError(f"denied {denied:,} packets of {len(revoked):,} revoked streams", subject="the datapath")
    return Cut(
        stopped_ms=tuple(max(0, last_ns - reached_ns) / 1e6 for _, last_ns, _, _ in revoked),
        enforced_ms=(enforced_ns - reached_ns) / 1e6,
        late=sum(since for _, _, _, since in revoked),
        denied=denied,
        kept=len(kept),
        carried_on=sum(1 for _, _, _, since in kept if since),
        round_ms=round_s * 1e3,
    )


def _denied(enforcer: KernelEnforcer) -> int:
    return sum(packets for (_, reason), packets in enforcer.counters().by_reason.items() if reason == "policy")


@contextmanager
def _program(namespace: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [*inside(namespace), sys.executable, str(_PROGRAM), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _expect(process: subprocess.Popen[str], word: str) -> None:
    if _line(process) != word:
        raise BenchError("ended before its streams were open", subject=_PROGRAM.name)


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
