"""Flows as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flow_line(flow: Mapping[str, Any]) -> str:
    """One flow as one line: time, verdict, who to whom, rule and revision."""
    time = str(flow["time"])[11:23]
    verdict = f"{flow['verdict']}{' (' + flow['reason'] + ')' if flow['reason'] else ''}"
    rules = " + ".join(flow["rules"])
    size = f"{flow['packets']} packets, {flow['bytes']} B{', others of the rule too' if flow.get('others') else ''}"
    return (
        f"{time} {flow['host']} {verdict:<22} {side_text(flow['src'])} → {side_text(flow['dst'])} {flow['proto']}  "
        f"{rules} @{flow['revision']}  {flow['kind']} {size}"
    )


def side_text(side: Mapping[str, Any]) -> str:
    """One end: the endpoint or the address, and the port where it has one."""
    name = side["endpoint"] or side["ip"] or "?"
    return f"{name}:{side['port']}" if side["port"] else str(name)
