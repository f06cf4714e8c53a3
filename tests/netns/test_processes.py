"""`by process`: of several executables in one workload those open a connection that a rule names, and no other.

Every program here is the same shell, copied to the paths that matter, and what arrives is counted at a socket of the peer.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.lab.traffic import ping
from hostward.model.endpoint import Endpoint, Port
from hostward.model.slice import ByProcess, Decision, HostSlice, Row
from hostward.policy import Numbers, compile_policy, parse_sources, unsupported
from tests.netns import frames as f
from tests.netns import probe as p
from tests.netns.hooks import on_every_hook
from tests.netns.pair import ALLOW, DENY, PING, Pair, inside_of
from tests.netns.test_reject import wait_for_ping

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
BY_PROCESS = 9

pytestmark = pytest.mark.netns


@pytest.fixture
def shells(tmp_path: Path) -> tuple[Path, Path]:
    """One program at the path that rules name, and at another one."""
    paths = (tmp_path / "opt" / "api", tmp_path / "opt" / "other")
    paths[0].parent.mkdir()
    tmp_path.chmod(0o755)
    for path in paths:
        shutil.copy("/bin/bash", path)
    return paths


def root() -> str:
    """Where this process's root lies in its mount namespace: not at its top where the tests run in a chroot."""
    table = ("cat", "/proc/self/mountinfo")
    number = next(place[0] for place in _mounts(*table) if place[4] == "/")
    # Whoever enters a mount namespace, also its own, finds itself at its top.
    from_top = _mounts("nsenter", "--mount=/proc/self/ns/mnt", *table)
    return next(place[4] for place in from_top if place[0] == number).rstrip("/")


def _mounts(*command: str) -> list[list[str]]:
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    return [line.split() for line in shown.splitlines()]


def by_process(*named: Path, unknown: int = DENY, other: int = DENY, to: int = ALLOW) -> Decision:
    """A decision that is ``to`` for the named executables; who accepts does not matter."""
    paths = tuple(f"{root()}{path}" for path in named)
    opener = ByProcess(unknown, other, ((paths, to),))
    acceptor = ByProcess(ALLOW, ALLOW)
    return Decision(BY_PROCESS, "deny", ("acme/default-deny",), opener=opener, acceptor=acceptor)


def slice_of(pair: Pair, revision: int, decision: Decision) -> HostSlice:
    base = pair.slice(revision)
    rows = {**base.rows, 1: Row(1, 1, (DENY, BY_PROCESS, PING))}
    return replace(base, rows=rows, decisions={**base.decisions, BY_PROCESS: decision})


def enforced(pair: Pair, pins: Path, decision: Decision, hook: str = "") -> KernelEnforcer:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, decision))
    wait_for_ping(pair)
    return held


@contextmanager
def sink(pair: Pair, family: int = 4) -> Iterator[socket.socket]:
    """A listening socket of `b`."""
    with pair.socket("b", socket.SOCK_STREAM, family) as listener:
        listener.bind((pair.address("b", family), 80))
        listener.listen(16)
        listener.settimeout(0.5)
        yield listener


def start(pair: Pair, shell: Path, script: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = (*inside_of(pair.namespace("a")), *before, str(shell), "-c", script)
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def opening(pair: Pair, family: int = 4) -> str:
    """A script that connects once; the kernel gives up after one repetition of its SYN."""
    return f"exec 3<>/dev/tcp/{pair.address('b', family)}/80"


def opens(pair: Pair, shell: Path, listener: socket.socket, family: int = 4, before: tuple[str, ...] = ()) -> bool:
    """Whether a connection of the shell's arrives."""
    return arrives(pair, shell, opening(pair, family), listener, before)


def arrives(pair: Pair, shell: Path, script: str, listener: socket.socket, before: tuple[str, ...]) -> bool:
    """Whether a connection that the shell's script makes arrives."""
    process = start(pair, shell, script, before)
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("family", [4, 6])
@on_every_hook
def test_only_the_named_executable_opens(
    pair: Pair, pins: Path, shells: tuple[Path, Path], hook: str, family: int
) -> None:
    api, other = shells
    held = enforced(pair, pins, by_process(api), hook)
    with sink(pair, family) as listener:
        assert opens(pair, api, listener, family)
        assert not opens(pair, other, listener, family)
        denied = [event for event in held.drain_events(100) if event.reason == "policy"]
        assert {event.rules for event in denied} == {("acme/default-deny",)}
        # The defence off: the same program arrives.
        held.enforce(replace(slice_of(pair, 2, by_process(api)), rows=pair.slice(2).rows))
        assert opens(pair, other, listener, family)


def test_a_denial_by_process_is_for_the_named_and_for_the_unknown(
    pair: Pair, pins: Path, shells: tuple[Path, Path]
) -> None:
    api, other = shells
    enforced(pair, pins, by_process(api, unknown=DENY, other=ALLOW, to=DENY))
    with sink(pair) as listener:
        assert not opens(pair, api, listener)
        assert opens(pair, other, listener)


def test_a_file_that_was_replaced_is_not_the_one_that_still_runs(
    pair: Pair, pins: Path, shells: tuple[Path, Path]
) -> None:
    api, other = shells
    enforced(pair, pins, by_process(api))
    with sink(pair) as listener:
        running = start(pair, api, f"echo ready; read; {opening(pair)}")
        try:
            assert running.stdout is not None
            assert running.stdin is not None
            running.stdout.readline()
            other.replace(api)
            running.stdin.write("go\n")
            running.stdin.flush()
            with pytest.raises(TimeoutError):
                listener.accept()
        finally:
            running.kill()
            running.communicate()
        assert opens(pair, api, listener)


def test_a_mount_namespace_of_ones_own_forges_no_path(pair: Pair, pins: Path, shells: tuple[Path, Path]) -> None:
    api, other = shells
    held = enforced(pair, pins, by_process(api))
    script = f"mount --bind {other} {api}; mount --bind /tmp /tmp; exec {api} -c '{opening(pair)}'"
    forging = ("unshare", "--user", "--map-root-user", "--mount")
    with sink(pair) as listener:
        assert not arrives(pair, Path("/bin/bash"), script, listener, forging)
        # The control: the script itself works, by whoever may.
        held.enforce(slice_of(pair, 2, by_process(api, unknown=ALLOW)))
        assert arrives(pair, Path("/bin/bash"), script, listener, forging)


def test_a_live_connection_is_decided_anew_by_the_process_that_opened_it(
    pair: Pair, pins: Path, shells: tuple[Path, Path]
) -> None:
    api, other = shells
    held = enforced(pair, pins, by_process(api))
    with sink(pair) as listener:
        opener = start(pair, api, f"{opening(pair)}; while read -u 3 line; do echo $line; done")
        try:
            assert opener.stdout is not None
            far, _ = listener.accept()
            for revision, decision in enumerate((by_process(api, other), by_process(api, unknown=ALLOW)), 2):
                # The peer's packet comes first, and tells nothing of the opener.
                held.enforce(slice_of(pair, revision, decision))
                far.sendall(b"hello\n")
                assert opener.stdout.readline() == "hello\n"
            held.enforce(slice_of(pair, 9, by_process(other)))
            far.sendall(b"lost\n")
            far.settimeout(0.5)
            with pytest.raises(TimeoutError):
                far.recv(1)
            assert not [flow for flow in held.flows("acme/a") if flow.protocol == f.TCP]
            far.close()
        finally:
            opener.kill()
            opener.communicate()


def test_a_rule_as_it_is_written_decides_which_program_opens(pair: Pair, pins: Path, shells: tuple[Path, Path]) -> None:
    """From the text of a policy to a packet."""
    api, other = shells
    text = f"""
tenant: acme
groups: {{web: role=web, db: role=db}}
rules:
  - api: allow web to db on tcp/80 by process {root()}{api}
  - ping: allow own to own on icmp/echo-request, icmpv6/echo-request
"""
    policies = parse_sources([("acme.yaml", text.encode())])
    assert unsupported(policies) == ()
    endpoints = [
        Endpoint("acme", name, {"role": role}, pair.mac(name), (pair.address(name),), "h1", Port(pair.device(name)))
        for name, role in (("a", "web"), ("b", "db"))
    ]
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(compile_policy(policies, endpoints, Numbers.empty(), datetime.now(UTC)).slice_for("h1", 1))
    with sink(pair) as listener:
        inside = f"/run/netns/{pair.namespace('a')}"
        ends = (pair.address("a"), pair.address("b"))
        assert any(ping(inside, *ends, nonce=f"attempt {attempt}".encode()) for attempt in range(10, 30))
        assert opens(pair, api, listener)
        assert not opens(pair, other, listener)
        allowed = [event for event in held.drain_events(100) if event.kind == "new" and event.destination_port == 80]
        assert "acme/api" in {rule for event in allowed for rule in event.rules}
        assert {event.process for event in allowed if event.direction == "egress"} == {f"{root()}{api}"}


def test_conditions_outlive_the_agent_and_are_mended(pair: Pair, pins: Path, shells: tuple[Path, Path]) -> None:
    api, other = shells
    enforced(pair, pins, by_process(api)).close()
    held = open_enforcer(pins, capacity=CAPACITY)
    with sink(pair) as listener:
        assert opens(pair, api, listener)
        held.enforce(slice_of(pair, 2, by_process(api, other)))
        assert opens(pair, other, listener)
        assert held.repair() == []
        tables, slots = held.programmer.tables, held.programmer.layout.decisions
        (conditional,) = [decision for decision in slots if decision.choices]
        tables.write_decision(slots[conditional], replace(conditional, choices=()))
        assert held.repair() == [f"decision {BY_PROCESS}: it had been changed"]
        held.enforce(slice_of(pair, 3, by_process(api)))
        assert opens(pair, api, listener)
        assert not opens(pair, other, listener)


def test_a_packet_without_a_socket_is_nobodys(pins: Path) -> None:
    """As from a guest: a frame that the program is run on has no socket of any process."""
    made = p.Probe(pins)
    base = p.slice_of(2)
    rows = {**base.rows, 1: replace(base.rows[1], cells=(p._DENY, BY_PROCESS, p._DENY, p._DENY, p._DENY, p._DENY))}

    def decide(unknown: int) -> None:
        decision = by_process(Path("/x"), unknown=unknown, other=p._ALLOW, to=p._ALLOW)
        revision = made.enforcer.revision + 1
        decisions = {**base.decisions, BY_PROCESS: decision}
        made.enforcer.enforce(replace(base, revision=revision, rows=rows, decisions=decisions))

    decide(p._DENY)
    assert made.out(4, f.UDP, f.udp(5000, 80)) == p.denied("policy")
    decide(p._ALLOW)
    assert made.out(4, f.UDP, f.udp(5001, 80)) == p.PASSED
