"""sFlow v5 by the letter of sflow_version_5.txt, sflow_host.txt and sflow_drops.txt; shares nothing with the encoder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any


class Reader:
    """XDR (RFC 4506). Raises struct.error or AssertionError where the bytes end or are not padded with zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def unsigned(self) -> int:
        return int(self._take("!I"))

    def hyper(self) -> int:
        return int(self._take("!Q"))

    def _take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def fixed(self, length: int) -> bytes:
        found = self._data[self._at : self._at + length]
        assert len(found) == length
        padding = -length % 4
        assert self._data[self._at + length : self._at + length + padding] == bytes(padding)
        self._at += length + padding
        return found

    def variable(self) -> bytes:
        return self.fixed(self.unsigned())

    def ended(self) -> bool:
        return self._at == len(self._data)


@dataclass
class Sample:
    """Flow or counters, with its records by their format."""

    kind: int
    sequence: int
    source: tuple[int, int]
    fields: dict[str, int] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Datagram:
    agent: str
    sub_agent: int
    sequence: int
    uptime_ms: int
    samples: list[Sample]


def decode(data: bytes) -> Datagram:
    """One datagram, whole."""
    reader = Reader(data)
    assert reader.unsigned() == 5
    agent = str(ip_address(reader.fixed({1: 4, 2: 16}[reader.unsigned()])))
    made = Datagram(agent, reader.unsigned(), reader.unsigned(), reader.unsigned(), [])
    for _ in range(reader.unsigned()):
        kind = reader.unsigned()
        made.samples.append(_sample(kind, Reader(reader.variable())))
    assert reader.ended()
    return made


def _sample(kind: int, reader: Reader) -> Sample:
    sequence, source = reader.unsigned(), reader.unsigned()
    made = Sample(kind, sequence, (source >> 24, source & 0xFFFFFF))
    if kind == 1:
        made.fields = {name: reader.unsigned() for name in ("rate", "pool", "drops", "input", "output")}
    else:
        assert kind == 2
    for _ in range(reader.unsigned()):
        record = reader.unsigned()
        body = Reader(reader.variable())
        made.records[record] = (_FLOW if kind == 1 else _COUNTERS)[record](body)
        assert body.ended(), record
    assert reader.ended()
    return made


def _header(reader: Reader) -> dict[str, Any]:
    names = ("protocol", "frame_length", "stripped")
    return {**{name: reader.unsigned() for name in names}, "header": reader.variable()}


def _user(reader: Reader) -> dict[str, Any]:
    found = {}
    for name in ("source", "destination"):
        assert reader.unsigned() == 106  # UTF-8
        found[name] = reader.variable().decode()
    return found


def _socket(length: int) -> Any:
    def read(reader: Reader) -> dict[str, Any]:
        protocol = reader.unsigned()
        local, remote = (str(ip_address(reader.fixed(length))) for _ in range(2))
        return {"protocol": protocol, "local": (local, reader.unsigned()), "remote": (remote, reader.unsigned())}

    return read


def _interface(reader: Reader) -> dict[str, Any]:
    found = {"index": reader.unsigned(), "type": reader.unsigned(), "speed": reader.hyper()}
    found |= {"direction": reader.unsigned(), "status": reader.unsigned()}
    for way in ("in", "out"):
        found[f"{way}_octets"] = reader.hyper()
        names = ("packets", "multicast", "broadcast", "discards", "errors")
        found |= {f"{way}_{name}": reader.unsigned() for name in names}
        if way == "in":
            found["in_unknown"] = reader.unsigned()
    return {**found, "promiscuous": reader.unsigned()}


def _host(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = {"name": reader.variable().decode(), "uuid": reader.fixed(16)}
    return {**found, "machine": reader.unsigned(), "os": reader.unsigned(), "release": reader.variable().decode()}


def _node(reader: Reader) -> dict[str, Any]:
    found = {"mhz": reader.unsigned(), "cpus": reader.unsigned(), "memory": reader.hyper()}
    return {**found, "memory_free": reader.hyper(), "domains": reader.unsigned()}


def _net_io(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for way in ("rx", "tx"):
        found[f"{way}_bytes"] = reader.hyper()
        found |= {f"{way}_{name}": reader.unsigned() for name in ("packets", "errors", "drops")}
    return found


_FLOW = {
    1: _header,
    1004: _user,
    1042: lambda reader: {"reason": reader.variable().decode()},
    2100: _socket(4),
    2101: _socket(16),
}
_COUNTERS = {
    1: _interface,
    2000: _host,
    2002: lambda reader: {"class": reader.unsigned(), "index": reader.unsigned()},
    2100: _node,
    2104: _net_io,
}
