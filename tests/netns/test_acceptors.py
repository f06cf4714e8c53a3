"""`at process`: of several executables in one workload those accept a connection that a rule names, and no other.

What arrives is counted by the servers themselves. Every denial has its control beside it: the same with the condition off.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.lab.traffic import ping
from hostward.model.endpoint import Endpoint, Port
from hostward.model.slice import ByProcess, Decision
from hostward.policy import Numbers, compile_policy, parse_sources, unsupported
from tests.netns import frames as f
from tests.netns import probe as p
from tests.netns.hooks import on_every_hook
from tests.netns.listening import CLOSE, ECHO, TCP, UDP, Server, interpreters, server
from tests.netns.pair import ALLOW, DENY, Pair, inside_of, run
from tests.netns.test_processes import BY_PROCESS, CAPACITY, enforced, root, slice_of

pytestmark = pytest.mark.netns

# linux/if_tun.h
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LISTEN = TCP.replace("{then}", ECHO)


@pytest.fixture
def programs(tmp_path: Path) -> tuple[Path, Path]:
    """See ``interpreters``."""
    return interpreters(tmp_path)


def at_process(*named: Path, unknown: int = DENY, other: int = DENY, to: int = ALLOW) -> Decision:
    """A decision that is ``to`` where the named executables accept; who opens does not matter."""
    paths = tuple(f"{root()}{path}" for path in named)
    acceptor = ByProcess(unknown, other, ((paths, to),))
    return Decision(BY_PROCESS, "deny", ("acme/default-deny",), opener=ByProcess(ALLOW, ALLOW), acceptor=acceptor)


@contextmanager
def listening(pair: Pair, program: Path, *arguments: str, script: str = LISTEN, family: int = 4) -> Iterator[Server]:
    with server(pair.namespace("b"), program, script, pair.address("b", family), "80", *arguments) as made:
        yield made


def connects(pair: Pair, family: int = 4, port: int = 0) -> bool:
    """Whether a connection from `a` is answered, from a port if one is given."""
    with pair.socket("a", socket.SOCK_STREAM, family) as client:
        client.settimeout(1.5)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((pair.address("a", family), port))
        try:
            client.connect((pair.address("b", family), 80))
        except TimeoutError:
            return False
        return True


def answers(pair: Pair, family: int = 4) -> bool:
    """Whether a datagram from `a` comes back."""
    with pair.socket("a", socket.SOCK_DGRAM, family) as client:
        client.settimeout(0.5)
        client.connect((pair.address("b", family), 80))
        client.send(b"hello")
        try:
            return client.recv(64) == b"hello"
        except TimeoutError:
            return False


@pytest.mark.parametrize("family", [4, 6])
@on_every_hook
def test_only_the_named_executable_accepts(
    pair: Pair, pins: Path, programs: tuple[Path, Path], hook: str, family: int
) -> None:
    db, other = programs
    held = enforced(pair, pins, at_process(db), hook)
    with listening(pair, db, family=family) as named:
        assert connects(pair, family)
        assert named.arrived()
        allowed = [event for event in held.drain_events(100) if event.kind == "new" and event.destination_port == 80]
        assert {event.process for event in allowed if event.direction == "ingress"} == {f"{root()}{db}"}
        assert {event.process for event in allowed if event.direction == "egress"} == {""}
    with listening(pair, other, family=family) as stranger:
        assert not connects(pair, family)
        denied = [event for event in held.drain_events(100) if event.reason == "policy"]
        assert {(event.direction, event.rules) for event in denied} == {("ingress", ("acme/default-deny",))}
        # The defence off: the same program accepts, and what was denied before had not arrived.
        held.enforce(replace(slice_of(pair, 2, at_process(db)), rows=pair.slice(2).rows))
        assert connects(pair, family)
        assert stranger.arrived()
        assert not stranger.arrived(0.2)


def test_a_denial_at_a_process_is_for_the_named_and_for_the_unknown(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db, unknown=DENY, other=ALLOW, to=DENY))
    with listening(pair, db):
        assert not connects(pair)
    with listening(pair, other):
        assert connects(pair)


def test_a_port_that_nobody_listens_on_is_nobodys(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    held = enforced(pair, pins, at_process(programs[0]))
    assert not connects(pair)
    held.enforce(slice_of(pair, 2, at_process(programs[0], unknown=ALLOW)))
    with pytest.raises(ConnectionRefusedError):
        connects(pair)


@pytest.mark.parametrize("script", [LISTEN, UDP])
def test_ipv4_at_a_socket_for_both_families(pair: Pair, pins: Path, programs: tuple[Path, Path], script: str) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db))
    for program in (db, other):
        with server(pair.namespace("b"), program, script, "::", "80"):
            for family in (4, 6):
                asked = connects if script is LISTEN else answers
                assert asked(pair, family) is (program is db)


@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_are_for_whom_the_rule_names(
    pair: Pair, pins: Path, programs: tuple[Path, Path], family: int
) -> None:
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    with listening(pair, db, script=UDP, family=family) as named:
        assert answers(pair, family)
        assert named.arrived()
    with listening(pair, other, script=UDP, family=family) as stranger:
        assert not answers(pair, family)
        held.enforce(slice_of(pair, 2, at_process(db, other)))
        assert answers(pair, family)
        assert stranger.arrived()
        assert not stranger.arrived(0.2)


def test_a_port_taken_over_is_another_executables(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db))
    with listening(pair, db):
        assert connects(pair)
    with listening(pair, other) as stranger:
        assert not connects(pair)
        assert not stranger.arrived(0.2)
    with listening(pair, db):
        assert connects(pair)


def test_a_server_that_closes_first_is_asked_again_from_the_same_port(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    """The ended connection keeps its ports at the server, and gives way to the new one."""
    db, other = programs
    enforced(pair, pins, at_process(db))
    script = TCP.replace("{then}", CLOSE)

    def once() -> None:
        with pair.socket("a", socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((pair.address("a"), 40_000))
            client.connect((pair.address("b"), 80))
            client.sendall(b"x")
            assert client.recv(1) == b""

    with listening(pair, db, script=script) as named:
        for _ in range(2):
            once()
            assert named.arrived()
    with listening(pair, other, script=script):
        assert not connects(pair, port=40_000)


def test_a_file_that_was_unlinked_is_nobodys_and_a_listener_stays_whose_it_was(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db))
    late = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n" + LISTEN
    with listening(pair, db, script=late) as waiting:
        db.unlink()
        waiting.say("go")
        assert waiting.expect("ready")
        assert not connects(pair)
    other.rename(db)
    with listening(pair, db):
        # Replaced under it, as an upgrade does.
        db.unlink()
        assert connects(pair)


def test_a_mount_namespace_of_ones_own_forges_no_listener(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    forging = f'mount --bind {other} {db}; mount --bind /tmp /tmp; exec {db} "$@"'
    # A port of his own choice: the workload's kernel may let anybody have it.
    anybody = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start"
    run(*inside_of(pair.namespace("b")), "sh", "-c", anybody)
    before = ("unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", forging)
    with server(pair.namespace("b"), Path("forged"), LISTEN, pair.address("b"), "80", before=before) as forger:
        assert not connects(pair)
        # The control: the script itself works, for whoever may.
        held.enforce(slice_of(pair, 2, at_process(db, unknown=ALLOW)))
        assert connects(pair)
        assert forger.arrived()
        assert not forger.arrived(0.2)


@pytest.mark.parametrize("script", [LISTEN, UDP])
def test_of_two_that_share_a_port_each_gets_its_own(
    pair: Pair, pins: Path, programs: tuple[Path, Path], script: str
) -> None:
    """SO_REUSEPORT: the kernel chooses by a hash of both ends, and so does the look-up."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    asked = connects if script is LISTEN else answers
    with (
        listening(pair, db, "SO_REUSEPORT", script=script) as named,
        listening(pair, other, "SO_REUSEPORT", script=script) as stranger,
    ):
        passed = [asked(pair) for _ in range(12)]
        for _ in range(passed.count(True)):
            assert named.arrived()
        assert not named.arrived(0.2)
        assert not stranger.arrived(0.2)
        # The control: without the condition both get some, so some of those above were the stranger's.
        held.enforce(slice_of(pair, 2, at_process(db, unknown=ALLOW, other=ALLOW)))
        while not stranger.arrived(0.2):
            assert asked(pair)


def test_a_datagram_port_that_anybody_may_share_is_nobodys(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    """With SO_REUSEADDR a socket of any user, bound to the device, gets what was for the server."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    with (
        listening(pair, db, "SO_REUSEADDR", script=UDP) as named,
        listening(pair, other, "SO_REUSEADDR", "SO_BINDTODEVICE=eth0", script=UDP) as thief,
    ):
        assert not answers(pair)
        assert not thief.arrived(0.2)
        # The control: it is the thief to whom the datagram goes, and not the server whom the look-up finds.
        held.enforce(slice_of(pair, 2, at_process(db, unknown=ALLOW)))
        assert answers(pair)
        assert thief.arrived()
        assert not named.arrived(0.2)


def test_a_listener_bound_to_a_device_is_nobodys(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    """The look-up knows the port's number and not the workload's device's."""
    db, _ = programs
    held = enforced(pair, pins, at_process(db))
    with listening(pair, db, "SO_BINDTODEVICE=eth0"):
        assert not connects(pair)
        held.enforce(slice_of(pair, 2, at_process(db, unknown=ALLOW)))
        assert connects(pair)


def test_a_listener_on_another_device_of_the_ports_number_is_not_taken_for_the_acceptor(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    """Numbers of devices are each namespace's own: the port's may be anybody's inside."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    number = Path(f"/sys/class/net/{pair.device('b')}/ifindex").read_text().strip()
    run(*inside_of(pair.namespace("b")), "ip", "link", "add", "name", "aside", "index", number, "type", "bridge")
    run(*inside_of(pair.namespace("b")), "ip", "link", "set", "aside", "up")
    with (
        listening(pair, db, "SO_BINDTODEVICE=aside") as named,
        listening(pair, other, "SO_BINDTODEVICE=eth0") as stranger,
    ):
        assert not connects(pair)
        held.enforce(slice_of(pair, 2, at_process(db, unknown=ALLOW)))
        assert connects(pair)
        assert stranger.arrived()
        assert not named.arrived(0.2)


def test_a_listener_older_than_the_first_rule_is_known_by_who_holds_it(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    db, other = programs
    with listening(pair, db):
        enforced(pair, pins, at_process(db))
        assert connects(pair)
    with listening(pair, other):
        assert not connects(pair)


def test_an_older_listener_held_by_two_executables_is_nobodys(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    db, other = programs
    shared = f"""
import os, socket, subprocess, sys
held = socket.socket()
held.bind((sys.argv[1], int(sys.argv[2])))
held.listen()
waits = subprocess.Popen(["{other}", "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[held.fileno()])
os.readlink(f"/proc/{{waits.pid}}/exe") == "{other}" or sys.exit(1)
print("ready", flush=True)
held.accept()
"""
    with listening(pair, db, script=shared):
        held = enforced(pair, pins, at_process(db, other))
        assert not connects(pair)
        held.enforce(slice_of(pair, 2, at_process(db, other, unknown=ALLOW)))
        assert connects(pair)


def test_who_listens_counts_and_not_who_made_the_socket_or_was_passed_it(
    pair: Pair, pins: Path, programs: tuple[Path, Path]
) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db))
    inherits = """
import socket, sys
held = socket.socket(fileno=int(sys.argv[1]))
held.listen()
print("ready", flush=True)
while True:
    accepted, _ = held.accept()
    print("arrived", flush=True)
"""
    passes = """
import os, socket, sys
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind((sys.argv[1], int(sys.argv[2])))
{listen}
held.set_inheritable(True)
os.execv("{program}", ["{program}", "-I", "-S", "-c", '''{script}''', str(held.fileno())])
"""

    def passed_on(maker: Path, heir: Path, listen: str) -> bool:
        script = passes.format(program=heir, script=inherits, listen=listen)
        with listening(pair, maker, script=script) as made:
            return connects(pair) and made.arrived()

    assert passed_on(other, db, "")
    assert not passed_on(db, other, "")
    # Who listened already has said so, whoever goes on with it: a listener that is passed on stays the first one's.
    assert passed_on(db, other, "held.listen()")
    assert not passed_on(other, db, "held.listen()")


@pytest.mark.parametrize("first", ["opener", "acceptor"])
def test_a_live_connection_is_decided_anew_by_who_accepted_it(
    pair: Pair, pins: Path, programs: tuple[Path, Path], first: str
) -> None:
    """Whichever side sends the first packet under the new rules."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    talks = """
import os, sys
{listen}
"""
    script = talks.format(
        listen=TCP.replace(
            "{then}",
            "[accepted.sendall(line.encode()) if line != 'read\\n' else print(accepted.recv(64).decode(), flush=True)"
            " for line in sys.stdin]",
        )
    )
    with listening(pair, db, script=script) as named, pair.socket("a", socket.SOCK_STREAM) as client:
        client.connect((pair.address("b"), 80))
        assert named.arrived()

        def sends() -> bool:
            if first == "opener":
                client.sendall(b"hello")
                named.say("read")
                return named.expect("hello", 1.0)
            named.say("hello")
            client.settimeout(1.0)
            try:
                return client.recv(64) == b"hello\n"
            except TimeoutError:
                return False

        for revision, decision in enumerate((at_process(db, other), at_process(db)), 2):
            held.enforce(slice_of(pair, revision, decision))
            assert sends()
        held.enforce(slice_of(pair, 9, at_process(other)))
        assert not sends()
        at_b = [flow for flow in held.flows("acme/b") if flow.protocol == f.TCP]
        assert not at_b


@pytest.mark.parametrize("options", [(), ("SO_REUSEADDR",)], ids=["another", "not known"])
def test_a_flow_remembers_who_accepted_where_no_socket_tells(
    pair: Pair, pins: Path, programs: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    """The server is gone: what the opener still sends is decided by who it was, until another one is there."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    with pair.socket("a", socket.SOCK_DGRAM) as client:
        client.connect((pair.address("b"), 80))
        with listening(pair, db, script=UDP):
            client.send(b"1")
            assert client.recv(64) == b"1"
        held.enforce(slice_of(pair, 2, at_process(db, other)))
        # The workload itself says that nobody is there any more: the datagram came so far.
        client.send(b"2")
        with pytest.raises(ConnectionRefusedError):
            client.recv(64)
        held.enforce(slice_of(pair, 3, at_process(db)))
        with listening(pair, other, *options, script=UDP) as stranger:
            client.send(b"3")
            assert not stranger.arrived(0.5)
            held.enforce(slice_of(pair, 4, at_process(db, unknown=ALLOW, other=ALLOW)))
            client.send(b"4")
            assert stranger.arrived()
            assert not stranger.arrived(0.2)


def test_conditions_at_outlive_the_agent(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    db, other = programs
    enforced(pair, pins, at_process(db)).close()
    with listening(pair, db):
        assert connects(pair)
        held = open_enforcer(pins, capacity=CAPACITY)
        assert connects(pair)
        held.enforce(slice_of(pair, 2, at_process(db)))
        assert held.repair() == []
        assert connects(pair)
        held.enforce(slice_of(pair, 3, at_process(other)))
        assert not connects(pair)


def test_the_workloads_namespace_is_followed(pair: Pair, pins: Path, programs: tuple[Path, Path]) -> None:
    """Its side of the veth goes to another namespace, where another executable has the port."""
    db, other = programs
    held = enforced(pair, pins, at_process(db))
    spare = f"hws{pair.tag}"
    run("ip", "netns", "add", spare)
    try:
        with server(spare, other, LISTEN, "0.0.0.0", "80") as stranger, listening(pair, db):
            assert connects(pair)
            run(*inside_of(pair.namespace("b")), "ip", "link", "set", "eth0", "netns", spare)
            run(*inside_of(spare), "ip", "addr", "add", "10.0.0.2/24", "dev", "eth0")
            run(*inside_of(spare), "ip", "link", "set", "eth0", "up")
            assert list(held.repair()) == ["acme/b: its workload's side is in another namespace"]
            assert held.repair() == []
            assert not connects(pair)
            held.enforce(slice_of(pair, 2, at_process(other)))
            assert connects(pair)
            assert stranger.arrived()
    finally:
        run("ip", "netns", "del", spare)


@pytest.mark.parametrize(
    ("rules", "passing"),
    [
        (["at process {named}"], {("named", "named"), ("other", "named")}),
        (["by process {named} at process {named}"], {("named", "named")}),
        # Together no host can judge these: the opener's decides as if nobody knew who accepts.
        (["by process {named}", "at process {named}"], {("named", "named"), ("named", "other")}),
    ],
)
def test_rules_as_they_are_written_decide_which_programs_meet(
    pair: Pair, pins: Path, programs: tuple[Path, Path], rules: list[str], passing: set[tuple[str, str]]
) -> None:
    """From the text of a policy to a packet, both ends on one host."""
    named = f"{root()}{programs[0]}"
    written = "".join(
        f"  - r{number}: allow web to db on tcp/80 {rule.format(named=named)}\n" for number, rule in enumerate(rules)
    )
    text = f"""
tenant: acme
groups: {{web: role=web, db: role=db}}
rules:
{written}  - ping: allow own to own on icmp/echo-request, icmpv6/echo-request
"""
    policies = parse_sources([("acme.yaml", text.encode())])
    assert unsupported(policies) == ()
    endpoints = [
        Endpoint("acme", name, {"role": role}, pair.mac(name), (pair.address(name),), "h1", Port(pair.device(name)))
        for name, role in (("a", "web"), ("b", "db"))
    ]
    held: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(compile_policy(policies, endpoints, Numbers.empty(), datetime.now(UTC)).slice_for("h1", 1))
    inside = f"/run/netns/{pair.namespace('a')}"
    ends = (pair.address("a"), pair.address("b"))
    assert any(ping(inside, *ends, nonce=f"attempt {attempt}".encode()) for attempt in range(10, 30))
    opens = "import socket, sys; socket.create_connection((sys.argv[1], 80), 1.5); print('ready', flush=True)"
    met: set[tuple[str, str]] = set()
    names = dict(zip(("named", "other"), programs, strict=True))
    for accepting, program in names.items():
        with listening(pair, program) as made:
            for opening, opener in names.items():
                command = (str(opener), "-I", "-S", "-c", opens, pair.address("b"))
                done = subprocess.run((*inside_of(pair.namespace("a")), *command), capture_output=True, check=False)
                if made.arrived(0.2):
                    assert done.returncode == 0
                    met.add((opening, accepting))
    assert met == passing


@pytest.mark.parametrize("protocol", [f.TCP, f.UDP, f.SCTP])
def test_a_port_without_a_namespace_behind_it_has_no_process(pins: Path, protocol: int) -> None:
    """As a guest's tap; and of SCTP never."""
    made = p.Probe(pins)
    base = p.slice_of(2)
    rows = {**base.rows, 2: replace(base.rows[2], cells=(p._DENY, p._DENY, BY_PROCESS, p._DENY, p._DENY, p._DENY))}
    payload = {f.TCP: f.tcp(5000, 443, f.SYN), f.UDP: f.udp(5000, 443), f.SCTP: f.sctp(5000, 443)}[protocol]
    for revision, unknown in ((2, p._DENY), (3, p._ALLOW)):
        acceptor = ByProcess(unknown, p._ALLOW, (((str(Path("/x")),), p._ALLOW),))
        decision = Decision(BY_PROCESS, "deny", ("acme/default-deny",), acceptor=acceptor)
        decisions = {**base.decisions, BY_PROCESS: decision}
        made.enforcer.enforce(replace(base, revision=revision, rows=rows, decisions=decisions))
        assert made.back(4, protocol, payload) == (p.denied("policy") if unknown == p._DENY else p.PASSED)


def test_an_executable_in_an_overlay_is_known_by_its_path_there(
    pair: Pair, pins: Path, programs: tuple[Path, Path], tmp_path: Path
) -> None:
    """As in a container: neither by the path that the file has in a layer, nor is the layer's known by the overlay's."""
    db, _ = programs
    merged, empty = tmp_path / "merged", tmp_path / "empty"
    merged.mkdir()
    empty.mkdir()
    run("mount", "-t", "overlay", "-o", f"lowerdir={empty}:{db.parent}", "overlay", str(merged))
    try:
        held = enforced(pair, pins, at_process(merged / "db"))
        with listening(pair, merged / "db"):
            assert connects(pair)
        with listening(pair, db):
            assert not connects(pair)
        held.enforce(slice_of(pair, 2, at_process(db)))
        with listening(pair, merged / "db"):
            assert not connects(pair)
    finally:
        run("umount", str(merged))


def test_behind_a_tap_nobody_is_known(pair: Pair, pins: Path) -> None:
    """A real tap in the place of `b`'s veth, with the guest's end in this test's hands."""
    run("ip", "link", "del", pair.device("b"))
    with open("/dev/net/tun", "r+b", buffering=0) as guest:
        fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", pair.device("b").encode(), _IFF_TAP | _IFF_NO_PI))
        run("ip", "link", "set", pair.device("b"), "master", pair.bridge)
        neighbour = ("ip", "neigh", "replace", pair.address("b"), "lladdr", pair.mac("b"), "dev", "eth0")
        run(*inside_of(pair.namespace("a")), *neighbour)
        held = open_enforcer(pins, capacity=CAPACITY)

        def opening_arrives() -> bool:
            """Whether a SYN for the port comes out at the guest's end."""
            with pair.socket("a", socket.SOCK_STREAM) as client:
                client.setblocking(False)
                client.connect_ex((pair.address("b"), 80))
                port = client.getsockname()[1].to_bytes(2)
                while select.select([guest], [], [], 1.5)[0]:
                    frame = guest.read(2_048)
                    if frame[12:14] == b"\x08\x00" and frame[23] == f.TCP and frame[34:36] == port:
                        return True
            return False

        # A port of a bridge that has just come up passes nothing at once.
        held.enforce(slice_of(pair, 1, at_process(Path("/opt/db"), unknown=ALLOW)))
        assert any(opening_arrives() for _ in range(10))
        held.enforce(slice_of(pair, 2, at_process(Path("/opt/db"), other=ALLOW)))
        held.drain_events(1_000)
        assert not opening_arrives()
        denied = [
            event for event in held.drain_events(100) if event.reason == "policy" and event.destination_port == 80
        ]
        assert {(event.endpoint, event.direction) for event in denied} == {("acme/b", "ingress")}
