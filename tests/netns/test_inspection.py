"""Flows of rules with `inspect=`: seen whole by a process without privileges, attributed, and stopped by a signature.

What arrives is counted at sockets; the negative control is the same traffic by a rule without `inspect=`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.agent.inspection import Profile
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.inspection import UNINSPECTED, Inspection
from hostward.model.slice import Decision, HostSlice, Row
from tests.netns.hooks import on_every_hook
from tests.netns.inspecting import Inspecting
from tests.netns.pair import DENY, PING, Pair, run

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
WEB = 7
ATTACK = b"GET /cgi-bin/../../etc/passwd HTTP/1.1\r\nHost: shop.example\r\n\r\n"
FINE = b"GET /index.html HTTP/1.1\r\nHost: shop.example\r\n\r\n"
RULES = """
alert http any any -> any any (msg:"passwd asked for"; flow:to_server,established; http.uri.raw; content:"/etc/passwd"; \
classtype:web-application-attack; sid:101; rev:2;)
drop http any any -> any any (msg:"passwd asked for and stopped"; flow:to_server,established; http.uri.raw; \
content:"/etc/passwd"; sid:102; rev:1;)
reject http any any -> any any (msg:"refused"; flow:to_server,established; http.host; content:"bad.example"; sid:103;)
"""
SEEN = Inspection(("watch",))
STOPPED = Inspection(("stop",))
PROFILES = {"watch": Profile(signatures=(101,)), "stop": Profile(signatures=(102, 103))}

pytestmark = pytest.mark.netns


def slice_of(pair: Pair, revision: int, inspection: Inspection) -> HostSlice:
    """`a` may open port 80 at `b`, inspected so at `b`'s end."""
    base = pair.slice(revision)
    web = Decision(WEB, "allow", ("acme/web",), at_destination=inspection)
    return replace(
        base,
        rows={**base.rows, 1: Row(1, 1, (DENY, WEB, PING))},
        decisions={number: d for number, d in {**base.decisions, WEB: web}.items() if number in (DENY, PING, WEB)},
    )


class Server:
    """`b`'s web server: keeps what each connection sent, and answers once a request is whole."""

    def __init__(self, pair: Pair, family: int = 4) -> None:
        self._socket = pair.socket("b", socket.SOCK_STREAM, family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.settimeout(None)
        self._socket.bind((pair.address("b", family), 80))
        self._socket.listen()
        self.got = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            own = bytearray()
            while data := connection.recv(65_536):
                own += data
                self.got += data
                while b"\r\n\r\n" in own:
                    del own[: own.index(b"\r\n\r\n") + 4]
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                del own[:-4]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def client(pair: Pair, family: int = 4) -> socket.socket:
    made = pair.socket("a", socket.SOCK_STREAM, family)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.settimeout(10.0)
    made.connect((pair.address("b", family), 80))
    return made


def in_single_bytes(connection: socket.socket, data: bytes) -> None:
    for offset in range(len(data)):
        connection.sendall(data[offset : offset + 1])


def drain(connection: socket.socket) -> None:
    """What arrived before comes first."""
    while connection.recv(100):
        pass


@pytest.fixture
def held(pair: Pair, pins: Path) -> KernelEnforcer:
    return open_enforcer(pins, capacity=CAPACITY)


@on_every_hook
@pytest.mark.parametrize("family", [4, 6])
def test_an_attack_in_single_bytes_is_seen_and_attributed(
    pair: Pair, pins: Path, tmp_path: Path, hook: str, family: int
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, SEEN))
    server = Server(pair, family)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work:
        with client(pair, family) as connection:
            in_single_bytes(connection, ATTACK)
            assert connection.recv(100).endswith(b"ok")
        alert = at_work.alert_of(101)
        assert bytes(server.got) == ATTACK
        assert alert["alert"]["action"] == "allowed"
        assert (alert["src_ip"], alert["dest_ip"], alert["dest_port"]) == (
            *(str(address) for address in (pair.address("a", family), pair.address("b", family))),
            80,
        ) or family == 6
        own = alert["hostward"]
        assert (own["tenant"], own["endpoint"], own["host"], own["rule"]) == ("acme", "acme/b", "h1", "acme/web")
        assert own["revision"] == 1
        assert alert["tenant_id"] > 0
        assert at_work.until(lambda: b'"event_type":"http"' in at_work.log.read_bytes())
        assert not [one for one in at_work.alerts if one["alert"]["signature_id"] == 102]
    server.close()


def test_a_drop_signature_stops_the_flow_and_no_other(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, STOPPED))
    server = Server(pair)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work, client(pair) as bad, client(pair) as good:
        bad.sendall(ATTACK)
        assert at_work.alert_of(102)["alert"]["action"] in ("allowed", "blocked")
        assert at_work.until(lambda: at_work.inspector.stopped == 1)
        bad.sendall(b"what comes behind it" * 10)
        good.sendall(FINE)
        assert good.recv(100).endswith(b"ok")
        # The good flow's request is all that arrived since: what was on its way when the signature matched came before.
        assert sorted((ATTACK, FINE)) == sorted((bytes(server.got[: len(ATTACK)]), bytes(server.got[len(ATTACK) :])))
        denied = held.counters().by_reason
        assert denied["acme/b", "signature"] > 0
    server.close()


def test_without_inspection_the_attack_goes_on_and_nobody_looks(
    pair: Pair, held: KernelEnforcer, tmp_path: Path
) -> None:
    """The negative control; and a tenant that asked for no inspection is not looked at."""
    held.enforce(slice_of(pair, 1, UNINSPECTED))
    server = Server(pair)
    with Inspecting.idle(held, tmp_path, RULES, PROFILES) as at_work, client(pair) as bad:
        bad.sendall(ATTACK)
        assert bad.recv(100).endswith(b"ok")
        bad.sendall(ATTACK)
        assert bad.recv(100).endswith(b"ok")
        assert bytes(server.got) == 2 * ATTACK
        assert held.readings().inspected.sent_packets == 0
        assert not at_work.alerts
    server.close()


def test_a_reject_signature_answers_who_sends(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, STOPPED))
    server = Server(pair)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work, client(pair) as bad:
        bad.sendall(FINE.replace(b"shop.example", b"bad.example"))
        at_work.alert_of(103)
        assert at_work.until(lambda: at_work.inspector.stopped == 1)
        bad.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            drain(bad)
    server.close()


def test_what_nobody_reads_passes_counted_or_is_denied(pair: Pair, held: KernelEnforcer) -> None:
    """No inspector runs: an endpoint's share of the ring fills, then its tenant's choice holds."""
    held.enforce(slice_of(pair, 1, SEEN))
    server = Server(pair)
    data = bytes(1 << 16)
    with client(pair) as connection:
        for _ in range(200):
            connection.sendall(data)
        connection.sendall(b"\r\n\r\n")
        assert connection.recv(100).endswith(b"ok")
        # Small ones fill what large ones have left of the share: less than one of those.
        for _ in range(80):
            connection.sendall(FINE)
            assert connection.recv(100).endswith(b"ok")
    assert len(server.got) == 200 * len(data) + 4 + 80 * len(FINE)
    inspected = held.readings().inspected
    assert inspected.missed_packets > 0
    assert inspected.missed_bytes > 0
    assert inspected.refused_packets == 0
    # Sent and missed are all that the rule let pass at this end, none twice.
    passed = held.counters().by_rule[WEB]
    assert inspected.sent_packets + inspected.missed_packets <= 2 * passed[0] + 2_000
    held.enforce(slice_of(pair, 2, replace(SEEN, fail_closed=True)))
    with pytest.raises(TimeoutError):
        client(pair).close()
    assert held.readings().inspected.refused_packets > 0
    assert held.counters().by_reason["acme/b", "uninspected"] > 0
    server.close()


def test_a_stream_that_nobody_knows_is_bypassed_and_goes_on(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, replace(SEEN, fail_closed=True)))
    server = Server(pair)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work, client(pair) as connection:
        sent = 0

        def more() -> bool:
            nonlocal sent
            connection.sendall(bytes(65_536))
            sent += 65_536
            return at_work.inspector.bypassed == 1

        assert at_work.until(more)
        assert at_work.until(lambda: len(server.got) == sent)
        seen = held.readings().inspected.sent_packets
        connection.sendall(bytes(65_536))
        assert at_work.until(lambda: len(server.got) == sent + 65_536)
        # Its packets go to the inspector no more; those of others do, and a new revision does not bring them back.
        held.enforce(slice_of(pair, 2, SEEN))
        connection.sendall(ATTACK)
        assert connection.recv(100).endswith(b"ok")
        assert held.readings().inspected.sent_packets == seen
        with client(pair) as other:
            other.sendall(ATTACK)
            assert other.recv(100).endswith(b"ok")
        at_work.alert_of(101)
        assert held.readings().inspected.sent_packets > seen
    server.close()


def test_another_detector_can_listen_on_a_mirror(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, SEEN))
    server, mirror, far_end = Server(pair), f"hwm{pair.tag}", f"hwn{pair.tag}"
    run("ip", "link", "add", mirror, "type", "veth", "peer", "name", far_end)
    try:
        for device in (mirror, far_end):
            run("ip", "link", "set", device, "mtu", "65535", "up")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as listening:
            listening.bind((far_end, 0))
            listening.settimeout(5.0)
            with Inspecting(held, tmp_path, RULES, PROFILES, mirror) as at_work, client(pair) as connection:
                connection.sendall(ATTACK)
                assert connection.recv(100).endswith(b"ok")
                frame = b""
                while ATTACK not in frame:
                    frame = listening.recv(70_000)
                assert frame[:6] == bytes.fromhex(pair.mac("b").replace(":", ""))
                while b"200 OK" not in frame:
                    frame = listening.recv(70_000)
                at_work.alert_of(101)
    finally:
        run("ip", "link", "del", mirror)
        server.close()


def test_it_holds_no_privilege(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, SEEN))
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work:
        assert at_work.inspector.pid is not None
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{at_work.inspector.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == ["65534"] * 4
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["Threads"]) <= 2


def test_one_that_dies_is_started_again_and_goes_on(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, SEEN))
    server = Server(pair)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work:
        first = at_work.inspector.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert at_work.until(lambda: at_work.inspector.pid not in (None, first))
        with client(pair) as connection:
            connection.sendall(ATTACK)
            assert connection.recv(100).endswith(b"ok")
        at_work.alert_of(101)
        assert at_work.inspector.starts == 2
    server.close()


def test_what_waited_for_one_that_died_is_counted_once(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    """Else the endpoint's share of the ring is taken for used up for ever, and nothing of it is seen again."""
    held.enforce(slice_of(pair, 1, SEEN))
    server = Server(pair)
    with Inspecting(held, tmp_path, RULES, PROFILES) as at_work:
        first = at_work.inspector.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with client(pair) as connection:
            for _ in range(40):
                connection.sendall(FINE)
                assert connection.recv(100).endswith(b"ok")
        os.kill(first, signal.SIGKILL)
        assert at_work.until(lambda: at_work.inspector.pid not in (None, first))
        missed = held.readings().inspected.missed_packets
        # The first is seen behind what waited; the second when nothing waits any more.
        for seen in (1, 2):
            with client(pair) as connection:
                connection.sendall(ATTACK)
                assert connection.recv(100).endswith(b"ok")
            assert at_work.until(lambda seen=seen: len(at_work.alerts) == seen)  # type: ignore[misc]
        assert held.readings().inspected.missed_packets == missed
    server.close()


def test_signatures_change_while_it_works(pair: Pair, held: KernelEnforcer, tmp_path: Path) -> None:
    held.enforce(slice_of(pair, 1, Inspection(("all",))))
    server = Server(pair)
    old = 'alert http any any -> any any (msg:"old"; http.uri; content:"index"; sid:1;)\n'
    with Inspecting(held, tmp_path, old) as at_work, client(pair) as connection:
        connection.sendall(FINE)
        at_work.alert_of(1)
        at_work.rules.write_text('alert http any any -> any any (msg:"new"; http.uri; content:"later"; sid:2;)\n')

        # The same connection goes on, with what was reassembled of it.
        def later() -> bool:
            connection.sendall(FINE.replace(b"index", b"later"))
            connection.recv(100)
            return any(alert["alert"]["signature_id"] == 2 for alert in at_work.alerts)

        assert at_work.until(later)
        assert at_work.inspector.starts == 1
    server.close()
