"""Endpoints as `get endpoints -o wide` shows them: how much of the quota is used, and who is spoken to most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_UNITS = ("B", "kB", "MB", "GB", "TB")


def wide_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with flows beside their quota, and each talker on a line of its own."""
    return [
        {
            **{key: value for key, value in row.items() if key not in ("name", "flow_quota", "talkers")},
            "flows": f"{row['flows']}/{row['flow_quota']}",
            "talkers": "\n".join(talker_text(talker) for talker in row["talkers"]),
            # What everybody has by default says nothing of this one.
            "guard": "\n".join(f"{kind} {what}" for kind, what in row["guard"].items() if what != "alert"),
        }
        for row in rows
    ]


def talker_text(talker: Mapping[str, Any]) -> str:
    """``acme/db tcp/5432 1.2 GB in 12 flows``."""
    peer = talker["peer"] if "/" in str(talker["peer"]) else talker["address"]
    service = f"{talker['protocol']}/{talker['port']}" if talker["port"] else talker["protocol"]
    flows = "1 flow" if talker["flows"] == 1 else f"{talker['flows']} flows"
    return f"{peer} {service} {_size(talker['bytes'])} in {flows}"


def _size(count_bytes: int) -> str:
    size, unit = float(count_bytes), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{count_bytes} B"
