"""Flow records of real traffic, as collectors that others wrote read them: tshark, nfcapd, nfacctd."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostward.datapath.flow_export import FlowExportSettings
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from tests.netns.collectors import PORT, Collector, collecting, nfacctd, nfcapd, nfdump, tool_missing, tshark
from tests.netns.pair import Pair, inside_of
from tests.netns.test_life import arrives, comes_back
from tests.netns.test_up import POLICY, Machine

CONNECTIONS, REQUEST, ANSWER = 6, 1_000, 5_000


@pytest.fixture
def machine(tmp_path: Path, pins: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, pins)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting(uuid.uuid4().hex[:6]) as made:
        yield made


@contextmanager
def _enforcing(
    pair: Pair, pins: Path, collector: Collector, *, standard: bool = False, lines: Path | None = None
) -> Iterator[KernelEnforcer]:
    settings = FlowExportSettings(
        ("127.0.0.1", PORT), standard, inactive_timeout_s=1, active_timeout_s=2, json_lines=lines
    )
    # The exporter's socket is made by whoever opens the enforcer, where the collector is.
    enforcer = collector.inside(lambda: open_enforcer(pins, flow_export=settings))
    try:
        enforcer.enforce(pair.slice(1))
        yield enforcer
    finally:
        enforcer.close()


def _talk(pair: Pair, family: int) -> None:
    """Connections that carry known amounts, an echo each way, and a port that is denied."""
    server = pair.socket("b", socket.SOCK_STREAM, family)
    server.bind((pair.address("b", family), 80))
    server.listen()
    for _ in range(CONNECTIONS):
        client = pair.socket("a", socket.SOCK_STREAM, family)
        client.settimeout(5)  # a lost SYN comes again after one
        client.connect((pair.address("b", family), 80))
        accepted, _ = server.accept()
        client.sendall(bytes(REQUEST))
        _read(accepted, REQUEST)
        accepted.sendall(bytes(ANSWER))
        _read(client, ANSWER)
        client.close()
        accepted.close()
    server.close()
    ping = ("ping", "-c", "2", "-i", "0.2", pair.address("b", family))
    subprocess.run([*inside_of(pair.namespace("a")), *ping], check=True, capture_output=True, timeout=10)
    denied = pair.socket("a", socket.SOCK_STREAM, family)
    denied.settimeout(0.2)
    with pytest.raises(OSError, match="timed out"):
        denied.connect((pair.address("b", family), 81))
    denied.close()


def _read(stream: socket.socket, octets: int) -> None:
    while octets > 0:
        octets -= len(stream.recv(octets))


def _seen_by_kernel(enforcer: KernelEnforcer) -> tuple[int, int]:
    """Packets and octets of all tracked flows, both directions."""
    flows = [flow for name in ("acme/a", "acme/b") for flow in enforcer.flows(name)]
    return (
        sum(sum(flow.packets) for flow in flows),
        sum(sum(flow.bytes) for flow in flows),
    )


@pytest.mark.skipif(tool_missing("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize("family", [4, 6])
def test_tshark_reads_every_record_and_its_sums_are_the_kernels(
    pair: Pair, pins: Path, collector: Collector, tmp_path: Path, family: int
) -> None:
    lines = tmp_path / "flows.json"
    with _enforcing(pair, pins, collector, lines=lines) as enforcer:
        _talk(pair, family)
        enforcer.drain_events(1_000)
        expected = _seen_by_kernel(enforcer)
        exporter = enforcer.flow_exporter
        assert exporter is not None
    counts = exporter.counts()
    time.sleep(0.2)
    fields = ("cflow.packets", "cflow.octets", "cflow.permanent_packets", "cflow.forwarding_status", "cflow.dstport")
    messages = tshark(collector, tmp_path, "_ws.malformed", "_ws.expert", *fields)
    assert len(messages) == len(collector.messages) == counts["sent_messages"]
    assert not any(message["_ws.malformed"] for message in messages)
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(written) == counts["records"] == counts["sent_records"] == counts["lines"]
    passed = [record for record in written if record["hostwardVerdict"] == "allow"]
    assert _total(passed, "Packet") == expected[0]
    assert _total(passed, "Octet") == expected[1]
    told = sum(int(value) for message in messages for value in message["cflow.packets"])
    assert told == sum(record["packetDeltaCount"] + record["reversePacketDeltaCount"] for record in written)
    web = [record for record in passed if record.get("destinationTransportPort") == 80]
    assert len(web) == 2 * CONNECTIONS, "at either end"
    for record in web:
        assert record[f"sourceIPv{family}Address"] == pair.address("a", family)
        assert record["hostwardTenant"] == "acme"
        assert record["hostwardRule"] == "acme/web"
        assert record["hostwardRevision"] == 1
        assert record["octetDeltaCount"] > REQUEST
        assert record["reverseOctetDeltaCount"] > ANSWER
        assert record["flowEndReason"] in (3, 4)
        assert record["flowStartMilliseconds"] <= record["flowEndMilliseconds"]
        assert record["tcpControlBits"] & 0x13 == 0x13, "SYN, ACK, FIN"
    denied = [record for record in written if record.get("destinationTransportPort") == 81]
    assert {record["forwardingStatus"] for record in denied} == {129}
    assert {record["hostwardReason"] for record in denied} == {"policy"}


def _total(records: list[dict[str, int]], what: str) -> int:
    forward, reverse = f"{what.lower()}DeltaCount", f"reverse{what}DeltaCount"
    return sum(record[forward] + record[reverse] for record in records)


@pytest.mark.skipif(tool_missing("nfcapd"), reason="nfdump is not installed")
@pytest.mark.parametrize("standard", [False, True])
def test_nfcapd_keeps_every_record(
    pair: Pair, pins: Path, collector: Collector, tmp_path: Path, *, standard: bool
) -> None:
    with nfcapd(collector, tmp_path / "nfcapd") as folder:
        with _enforcing(pair, pins, collector, standard=standard) as enforcer:
            _talk(pair, 4)
            _talk(pair, 6)
            exporter = enforcer.flow_exporter
            assert exporter is not None
        counts = exporter.counts()
    found = nfdump(folder)
    assert len(found) == counts["sent_records"]
    assert sum(int(row["ipkt"]) + int(row["opkt"]) for row in found) == counts["packets"]
    assert sum(int(row["ibyt"]) + int(row["obyt"]) for row in found) == counts["octets"]
    answers = [int(row["opkt" if not standard else "ipkt"]) for row in found if row["sp" if standard else "dp"] == "80"]
    assert len(answers) == 2 * 2 * CONNECTIONS
    assert min(answers) >= 3


@pytest.mark.skipif(tool_missing("nfacctd"), reason="pmacct is not installed")
def test_nfacctd_reads_the_standard_form(pair: Pair, pins: Path, collector: Collector, tmp_path: Path) -> None:
    with nfacctd(collector, tmp_path / "nfacctd") as out:
        with _enforcing(pair, pins, collector, standard=True) as enforcer:
            _talk(pair, 4)
            exporter = enforcer.flow_exporter
            assert exporter is not None
        counts = exporter.counts()
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(row["packets"] for row in found) == counts["packets"]
    assert sum(row["bytes"] for row in found) == counts["octets"]
    assert "malformed" not in (out.parent / "log").read_text()


def test_a_flow_that_goes_on_is_told_of_when_its_time_is_up(
    pair: Pair, pins: Path, collector: Collector, tmp_path: Path
) -> None:
    lines = tmp_path / "flows.json"
    with _enforcing(pair, pins, collector, lines=lines):
        server = pair.socket("b", socket.SOCK_DGRAM)
        server.bind((pair.address("b"), 80))
        client = pair.socket("a", socket.SOCK_DGRAM)
        sent = 0
        end = time.monotonic() + 2.7
        while time.monotonic() < end:
            client.sendto(b"x", (pair.address("b"), 80))
            sent += 1
            time.sleep(0.05)
        time.sleep(2.5)
        found = [
            record
            for record in map(json.loads, lines.read_text().splitlines())
            if "17" in str(record["protocolIdentifier"])
        ]
        mine = [record for record in found if record["flowDirection"] == 1]
    assert [record["flowEndReason"] for record in mine] == [2, 1], "the active time-out, then the inactive one"
    assert sum(record["packetDeltaCount"] for record in mine) == sent
    first, second = mine
    assert first["flowEndMilliseconds"] <= second["flowStartMilliseconds"] or (
        first["flowEndMilliseconds"] == second["flowStartMilliseconds"]
    )
    last = [record for record in map(json.loads, lines.read_text().splitlines()) if record["protocolIdentifier"] == 17]
    assert last == found, "the end adds nothing"


def test_what_the_controller_is_told_of_stays_within_the_endpoints_quota(
    pair: Pair, pins: Path, collector: Collector
) -> None:
    with _enforcing(pair, pins, collector) as enforcer:
        client = pair.socket("a", socket.SOCK_DGRAM)
        for port in range(2_000):
            client.close()
            client = pair.socket("a", socket.SOCK_DGRAM)
            client.bind((pair.address("a"), 20_000 + port))
            client.sendto(b"x", (pair.address("b"), 80))
        time.sleep(1)
        told = [event for event in enforcer.drain_events(10_000) if event.kind == "new" and event.endpoint == "acme/a"]
        exporter = enforcer.flow_exporter
        assert exporter is not None
        counts = exporter.counts()
        assert 256 <= len(told) < 1_000
        assert counts["events"] >= 4_000
        assert counts["undrained_events"] >= 3_000
        assert counts["bucket_lost_events"] == counts["ring_lost_events"] == 0
    counts = exporter.counts()
    assert counts["packets"] >= 4_000
    assert counts["unseen_ends"] == counts["estimated"] == counts["socket_lost_records"] == 0


def test_a_restart_tells_nothing_twice(pair: Pair, pins: Path, collector: Collector, tmp_path: Path) -> None:
    lines = tmp_path / "flows.json"
    for _ in range(2):
        with _enforcing(pair, pins, collector, lines=lines) as enforcer:
            _talk(pair, 4)
            time.sleep(0.5)
            expected = _seen_by_kernel(enforcer)
            exporter = enforcer.flow_exporter
            assert exporter is not None
    passed = [record for record in map(json.loads, lines.read_text().splitlines()) if record["forwardingStatus"] == 64]
    assert exporter.counts()["resumed"] > 0
    assert (_total(passed, "Packet"), _total(passed, "Octet")) == expected


@pytest.mark.netns
def test_hostward_up_names_groups_tenant_and_rule(machine: Machine, pair: Pair, tmp_path: Path) -> None:
    policy, lines = tmp_path / "acme.yaml", tmp_path / "flows.json"
    policy.write_text(POLICY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(10)
        machine.options = ("--ipfix", f"127.0.0.1:{collector.getsockname()[1]}", "--json-lines", str(lines))
        machine.start(policy)
        machine.add(pair, "a", "client")
        machine.add(pair, "b", "server")
        assert comes_back(pair, 80)
        assert not arrives(pair, 81)
        assert b"hostwardTenant" in collector.recv(65_535), "templates, and what own elements are"
        machine.signal(signal.SIGTERM)
        time.sleep(2)
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    mine = [record for record in records if record.get("hostwardEndpoint") == "acme/a"]
    allowed = [record for record in mine if record.get("destinationTransportPort") == 80]
    denied = [record for record in mine if record.get("destinationTransportPort") == 81]
    assert allowed
    assert denied
    for record in allowed:
        assert (record["hostwardTenant"], record["hostwardGroup"]) == ("acme", "client")
        assert (record["hostwardRule"], record["hostwardVerdict"]) == ("acme/web", "allow")
    assert {record["hostwardRule"] for record in denied} == {"acme/default-deny"}
