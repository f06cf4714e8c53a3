"""Where alerts go beside the log: syslog (RFC 5424), OCSF's Detection Finding, webhooks. None of them is waited for."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hostward.agent.inspection.eve_log import EveLog

log = logging.getLogger(__name__)

# RFC 5424, section 6.2.1: facility local0.
_FACILITY = 16
# By EVE's severity: critical, error, warning; the rest notices.
_SYSLOG_SEVERITY = {1: 2, 2: 3, 3: 4}
# OCSF 1.x severity_id: 5 critical, 4 high, 3 medium, 2 low.
_OCSF_SEVERITY = {1: 5, 2: 4, 3: 3}


class Outlet(Protocol):
    """Takes alerts; whatever it cannot give away it counts in ``lost``."""

    lost: int

    def take(self, alert: Mapping[str, Any]) -> None:
        """One alert, as EVE has it."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Syslog:
    """RFC 5424 messages, one a datagram (RFC 5426), whose text is the alert in EVE's form."""

    def __init__(self, address: str, host: str) -> None:
        """``address`` is ``HOST:PORT`` or the path of a socket. Raises OSError if there is no such address."""
        self.lost = 0
        self._host = host
        if address.startswith("/"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._to: Any = address
        else:
            name, _, port = address.rpartition(":")
            family, kind, _, _, self._to = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)

    def take(self, alert: Mapping[str, Any]) -> None:
        """See ``Outlet``."""
        severity = _SYSLOG_SEVERITY.get(alert["alert"].get("severity"), 5)
        text = json.dumps(alert, separators=(",", ":"))
        line = f"<{_FACILITY * 8 + severity}>1 {alert['timestamp']} {self._host} hostward - alert - {text}"
        try:
            self._socket.sendto(line.encode(), self._to)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                log.warning("an alert did not reach syslog: %s", error)

    def close(self) -> None:
        """See ``Outlet``."""
        self._socket.close()


class Ocsf:
    """OCSF 1.x Detection Findings (class 2004), one a line of a file that is kept short."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.lost = 0
        self._log = EveLog(path, max_bytes, keep)

    def take(self, alert: Mapping[str, Any]) -> None:
        """See ``Outlet``."""
        try:
            self._log.write(json.dumps(detection_finding(alert), separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            self.lost += 1
            log.warning("an alert was not written: %s", error)

    def close(self) -> None:
        """See ``Outlet``."""
        self._log.close()


def detection_finding(alert: Mapping[str, Any]) -> dict[str, Any]:
    """An alert as OCSF's Detection Finding: activity Create, of category Findings."""
    what, own = alert["alert"], alert.get("hostward", {})
    blocked = what.get("action") == "blocked"
    endpoints = {
        name: {key: value for key, value in (("ip", alert.get(ip)), ("port", alert.get(port))) if value is not None}
        for name, ip, port in (("src_endpoint", "src_ip", "src_port"), ("dst_endpoint", "dest_ip", "dest_port"))
    }
    evidence: dict[str, Any] = {**endpoints, "connection_info": {"protocol_name": alert.get("proto", "").lower()}}
    if own.get("process"):
        evidence["process"] = {"file": {"path": own["process"], "type_id": 1, "name": Path(own["process"]).name}}
    return {
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": 1,
        "type_uid": 200401,
        "time": int(datetime.fromisoformat(alert["timestamp"]).timestamp() * 1000),
        "severity_id": _OCSF_SEVERITY.get(what.get("severity", 4), 2),
        "status_id": 1,
        "action_id": 2 if blocked else 1,
        "disposition_id": 2 if blocked else 1,
        "message": what.get("signature", ""),
        "finding_info": {
            "uid": f"{what.get('gid', 1)}:{what.get('signature_id', 0)}:{alert.get('flow_id', 0)}",
            "title": what.get("signature", ""),
            "types": [what.get("category", "")],
            "analytic": {"uid": str(what.get("signature_id", 0)), "type_id": 1, "name": what.get("signature", "")},
        },
        "evidences": [evidence],
        "resources": [{"name": own.get("endpoint") or "", "owner": {"org": {"name": own.get("tenant") or ""}}}],
        "metadata": {
            "version": "1.4.0",
            "tenant_uid": own.get("tenant") or "",
            "product": {"name": "Hostward", "vendor_name": "Hostward"},
            "profiles": ["host", "security_control"],
        },
        "unmapped": {"hostward": own},
    }
