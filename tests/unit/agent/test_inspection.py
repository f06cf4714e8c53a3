"""What the inspector's parent keeps, sends on and understands."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.agent.inspection import InspectorSettings, Profile
from hostward.agent.inspection.eve_log import EveLog
from hostward.agent.inspection.outlets import Ocsf, Syslog, detection_finding
from hostward.agent.inspection.protocol import Alert, Judged, decode_report, encode_names, encode_rules, tenant_number
from hostward.datapath.inspection import InspectionNames
from hostward.model.endpoint import Port
from hostward.model.slice import LocalEndpoint

ALERT: dict[str, Any] = {
    "timestamp": "2026-11-28T12:00:00.250000+0000",
    "flow_id": 7,
    "event_type": "alert",
    "src_ip": "10.1.0.12",
    "src_port": 40_000,
    "dest_ip": "10.1.0.11",
    "dest_port": 80,
    "proto": "TCP",
    "alert": {
        "action": "blocked",
        "gid": 1,
        "signature_id": 9,
        "rev": 2,
        "signature": "bad",
        "category": "c",
        "severity": 1,
    },
    "hostward": {"tenant": "acme", "endpoint": "acme/web", "process": "/usr/sbin/nginx", "rule": "acme/web"},
}


class TestEveLog:
    def test_only_whole_lines_are_written(self, tmp_path: Path) -> None:
        log = EveLog(tmp_path / "eve.json", 1_000, 2)
        log.write(b'{"a"')
        assert (tmp_path / "eve.json").read_bytes() == b""
        log.write(b':1}\n{"b"')
        assert (tmp_path / "eve.json").read_bytes() == b'{"a":1}\n'
        log.close()
        assert (tmp_path / "eve.json").read_bytes() == b'{"a":1}\n'

    def test_it_is_begun_anew_and_older_ones_are_kept(self, tmp_path: Path) -> None:
        log = EveLog(tmp_path / "eve.json", 20, 2)
        for number in range(8):
            log.write(b"%09d\n" % number)
        log.close()
        kept = {path.name: path.read_bytes().split() for path in tmp_path.iterdir()}
        assert kept == {
            "eve.json": [b"000000006", b"000000007"],
            "eve.json.1": [b"000000004", b"000000005"],
            "eve.json.2": [b"000000002", b"000000003"],
        }

    def test_without_older_ones_it_is_emptied(self, tmp_path: Path) -> None:
        log = EveLog(tmp_path / "eve.json", 4, 0)
        log.write(b"aaa\n")
        log.write(b"bbb\n")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"bbb\n"]

    def test_it_goes_on_behind_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "eve.json").write_bytes(b"before\n")
        log = EveLog(tmp_path / "eve.json", 1_000, 1)
        log.write(b"after\n")
        assert (tmp_path / "eve.json").read_bytes() == b"before\nafter\n"

    @given(lines=st.lists(st.binary(min_size=1, max_size=9).filter(lambda b: b"\n" not in b)), cuts=st.data())
    def test_however_it_comes_no_line_is_lost_or_torn(
        self, lines: list[bytes], cuts: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("log")
        log, data = EveLog(folder / "eve.json", 30, 1_000), b"".join(line + b"\n" for line in lines)
        while data:
            size = cuts.draw(st.integers(1, len(data)))
            log.write(data[:size])
            data = data[size:]
        log.close()
        names = sorted(folder.iterdir(), key=lambda path: -int(path.name.removeprefix("eve.json").lstrip(".") or 0))
        assert b"".join(path.read_bytes() for path in names).split(b"\n")[:-1] == lines


class TestOutlets:
    def test_syslog_is_one_message_of_rfc_5424(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(5)
            outlet = Syslog(f"127.0.0.1:{server.getsockname()[1]}", "h1")
            outlet.take(ALERT)
            told = server.recv(65_536).decode()
            outlet.close()
        head, _, text = told.partition(" - alert - ")
        assert head == f"<130>1 {ALERT['timestamp']} h1 hostward"
        assert json.loads(text) == ALERT

    def test_what_syslog_does_not_take_is_counted(self, tmp_path: Path) -> None:
        outlet = Syslog(str(tmp_path / "nobody.sock"), "h1")
        outlet.take(ALERT)
        outlet.take(ALERT)
        assert outlet.lost == 2

    def test_a_finding_in_ocsf(self, tmp_path: Path) -> None:
        outlet = Ocsf(tmp_path / "ocsf.json", 10_000, 1)
        outlet.take(ALERT)
        found = json.loads((tmp_path / "ocsf.json").read_text())
        assert found == detection_finding(ALERT)
        assert (found["class_uid"], found["type_uid"], found["severity_id"], found["disposition_id"]) == (
            2004,
            200401,
            5,
            2,
        )
        assert found["time"] == 1_795_867_200_250
        assert found["metadata"]["tenant_uid"] == "acme"
        assert found["evidences"][0]["src_endpoint"] == {"ip": "10.1.0.12", "port": 40_000}
        assert found["evidences"][0]["process"]["file"]["path"] == "/usr/sbin/nginx"


class TestProtocol:
    def settings(self, tmp_path: Path, *files: str) -> InspectorSettings:
        for file in files:
            (tmp_path / file).write_text(f"# {file}\n")
        profiles = {"web": Profile(files=("a.rules",), without=(3,))}
        return InspectorSettings((str(tmp_path / "*.rules"),), tmp_path / "cache", Path("/bin/true"), profiles)

    def test_signatures_are_sent_as_text_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        order = json.loads(encode_rules(self.settings(tmp_path, "b.rules", "a.rules"), {1: ("web",)}))["rules"]
        assert order["files"] == [
            {"name": "a.rules", "text": "# a.rules\n"},
            {"name": "b.rules", "text": "# b.rules\n"},
        ]
        assert order["sets"] == {"1": ["web"]}
        assert order["profiles"]["web"] == {"files": ["a.rules"], "classtypes": [], "signatures": [], "except": [3]}

    def test_data_that_signatures_name_goes_along_and_nothing_else(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path)
        (tmp_path / "names.lst").write_text("x\n")
        (tmp_path.parent / "secret").write_text("s\n")
        (tmp_path / "a.rules").write_text(
            "alert dns any any -> any any (dns.query; dataset:isset,n,type string,load names.lst; sid:1;)\n"
            "alert dns any any -> any any (dns.query; dataset:isset,m,type string,load ../secret; sid:2;)\n"
            "alert dns any any -> any any (dns.query; dataset:isset,o,type string,load missing.lst; sid:3;)\n"
        )
        assert json.loads(encode_rules(settings, {}))["rules"]["data"] == {"names.lst": "x\n"}

    def test_names(self) -> None:
        endpoint = LocalEndpoint("acme/web", "acme", 0, "02:00:00:00:00:01", {}, Port("eth0"))
        names = InspectionNames({3: endpoint}, {7: "acme/web"}, {(3, 2): "/bin/x"}, {1: ("web",)})
        order = json.loads(encode_names("h1", names))["names"]
        assert order["endpoints"] == {"3": {"name": "acme/web", "tenant": "acme", "tenant_id": tenant_number("acme")}}
        assert (order["rules"], order["processes"]) == ({"7": "acme/web"}, {"3": {"2": "/bin/x"}})

    def test_reports(self) -> None:
        told = decode_report(
            json.dumps({"say": "judged", "slot": 1, "key": "0f" * 48, "tag": 2, "marks": 8, "signature": 9})
        )
        assert told == Judged(1, "0f" * 48, 2, 8, 9)
        assert decode_report(json.dumps({"say": "alert", "event": ALERT})) == Alert(ALERT)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"{}",
            b'{"say":"obey"}',
            b'{"say":"judged","slot":1,"key":"00","tag":2,"marks":8,"signature":9}',
            b'{"say":"judged","slot":-1,"key":"' + b"0f" * 48 + b'","tag":2,"marks":8,"signature":9}',
            b'{"say":"alert","event":[]}',
        ],
    )
    def test_what_is_no_report_is_refused(self, line: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode_report(line)
