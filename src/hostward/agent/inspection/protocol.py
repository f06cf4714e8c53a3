"""What the agent and the inspector say to each other, one line of JSON each (crates/hostward-inspect/src/control.rs)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from hostward.agent.inspection.settings import InspectorSettings
from hostward.datapath.inspection import InspectionNames
from hostward.wire import Reader

# Files that datasets and lists of digests are loaded from: beside the signatures, by their bare name.
_DATA = re.compile(r"(?:load|file(?:md5|sha1|sha256))[ :]+!?([A-Za-z0-9_.-]+)")
# struct hw_flow_key, in hex.
_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{96}$")]
_Word = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class _Report(msgspec.Struct, frozen=True, tag_field="say", rename=None):
    """One thing that the inspector says."""


class Confined(_Report, frozen=True, tag="confined"):
    """It has given up its privileges; ``files``: the kernel confines which files it can open, too."""

    files: bool


class Loaded(_Report, frozen=True, tag="loaded"):
    """Signatures are in force. ``problems`` are the first lines about those that were not understood."""

    signatures: int
    milliseconds: int
    problems: Sequence[str]
    refused: int


class NotLoaded(_Report, frozen=True, tag="not_loaded"):
    """New signatures could not be loaded; those before stay in force."""

    why: str


class Alert(_Report, frozen=True, tag="alert"):
    """An alert, as EVE JSON has it."""

    event: Mapping[str, Any]


class Judged(_Report, frozen=True, tag="judged"):
    """What shall become of a flow; ``signature`` asks for it, 0 where the inspector is done with the flow."""

    slot: _Word
    key: _Key
    tag: _Word
    marks: _Word
    signature: _Word


class Counted(_Report, frozen=True, tag="counted"):
    """Counters since it started."""

    counters: Mapping[str, int]


Report = Confined | Loaded | NotLoaded | Alert | Judged | Counted

_reports: Reader[Report] = Reader(Report, json=True)
decode_report = _reports.decode


def encode_rules(settings: InspectorSettings, sets: Mapping[int, tuple[str, ...]]) -> bytes:
    """The order to load what the settings name, for these sets of profiles. Raises OSError where a file cannot be read.

    The inspector can open no file: it is sent what they hold.
    """
    files = [(path.name, path.read_text("utf-8", "replace")) for path in settings.files()]
    data: dict[str, str] = {}
    for path in settings.files():
        for name in _DATA.findall(dict(files)[path.name]):
            beside = path.parent / name
            if name not in data and beside.parent == path.parent and beside.is_file():
                data[name] = beside.read_text("utf-8", "replace")
    order = {
        "files": [{"name": name, "text": text} for name, text in files],
        "data": dict(data),
        "variables": dict(settings.variables),
        "profiles": {
            name: {
                "files": profile.files,
                "classtypes": profile.classtypes,
                "signatures": profile.signatures,
                "except": profile.without,
            }
            for name, profile in settings.profiles.items()
        },
        "sets": {str(number): names for number, names in sets.items()},
    }
    return msgspec.json.encode({"rules": order}) + b"\n"


def encode_names(host: str, names: InspectionNames) -> bytes:
    """Whose the numbers of records are."""
    processes: dict[str, dict[str, str]] = {}
    for (slot, number), path in names.executables.items():
        processes.setdefault(str(slot), {})[str(number)] = path
    order = {
        "host": host,
        "endpoints": {
            str(slot): {"name": endpoint.id, "tenant": endpoint.tenant, "tenant_id": tenant_number(endpoint.tenant)}
            for slot, endpoint in names.endpoints.items()
        },
        "rules": {str(number): rule for number, rule in names.rules.items()},
        "processes": processes,
    }
    return msgspec.json.encode({"names": order}) + b"\n"


def tenant_number(tenant: str) -> int:
    """EVE's ``tenant_id`` of a tenant: the same on every host, in 31 bits."""
    return zlib.crc32(tenant.encode()) & 0x7FFF_FFFF
