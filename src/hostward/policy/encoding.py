"""A slice as bytes: what goes over the channel, what lies on a host's disk, and what the digest is of.

The encoding is canonical: equal slices are equal bytes. Tables are most of a slice, one entry for each local identity,
direction and peer, so they are columns over one list of peers; addresses of endpoints come next and are columns too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from struct import pack, unpack

import msgspec

from hostward.errors import ConflictError
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, PrefixKey, Row, TableKey
from hostward.policy.prefixes import parse_address
from hostward.policy.shared import LastResults

_FORMAT = 1
_WIDTHS = {2: "H", 4: "I"}


class _Hosts(msgspec.Struct, frozen=True, array_like=True):
    """The single addresses of one network and family: each ``size`` bytes, ascending, and their identities beside them."""

    network: int
    size: int
    addresses: bytes
    identities: bytes


class _Table(msgspec.Struct, frozen=True, array_like=True):
    """One local identity's rows by peer: the place in ``_Packed.rows`` plus one, 0 where the peer is unknown."""

    identity: int
    direction: str
    rows: bytes


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    revision: int
    networks: list[tuple[int, str]]
    endpoints: list[LocalEndpoint]
    prefixes: list[tuple[int, str, int]]
    hosts: list[_Hosts]
    class_sets: list[ClassSet]
    rows: list[Row]
    decisions: list[Decision]
    peers: bytes
    width: int
    tables: list[_Table]


_PackedAddresses = tuple[list[tuple[int, str, int]], list[_Hosts]]
_packed_last: LastResults[_PackedAddresses] = LastResults()
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Packed)


def encode_slice(value: HostSlice) -> bytes:
    """The canonical bytes. Raises ConflictError if a table names a row that the slice does not have."""
    peers = sorted({peer for table in value.tables.values() for peer in table})
    rows = [value.rows[number] for number in sorted(value.rows)]
    places = {row.id: place for place, row in enumerate(rows, 1)}
    width = 2 if len(rows) < 1 << 16 else 4
    prefixes, hosts = _packed_last.of(_pack_addresses, value.addresses)
    return _encoder.encode(
        _Packed(
            _FORMAT,
            value.revision,
            sorted(value.networks.items()),
            [value.endpoints[name] for name in sorted(value.endpoints)],
            prefixes,
            hosts,
            [value.class_sets[number] for number in sorted(value.class_sets)],
            rows,
            [value.decisions[number] for number in sorted(value.decisions)],
            _numbers(peers, 4),
            width,
            [
                _Table(identity, direction, _column(value.tables[identity, direction], peers, places, width))
                for identity, direction in sorted(value.tables)
            ],
        )
    )


def decode_slice(content: bytes) -> HostSlice:
    """The inverse. Raises msgspec.MsgspecError for what is no slice."""
    try:
        packed = _decoder.decode(content)
    except UnicodeDecodeError as error:
        raise msgspec.ValidationError(f"a text in the slice is not UTF-8: {error.reason}") from None
    if packed.format != _FORMAT or packed.width not in _WIDTHS:
        raise msgspec.ValidationError(f"a slice of format {packed.format} is not known here")
    addresses: dict[PrefixKey, int] = {(network, prefix): identity for network, prefix, identity in packed.prefixes}
    for hosts in packed.hosts:
        addresses.update(_unpack_hosts(hosts))
    peers = _read(packed.peers, 4)
    row_ids = [0, *(row.id for row in packed.rows)]
    tables: dict[TableKey, Mapping[int, int]] = {}
    for table in packed.tables:
        places = _read(table.rows, packed.width)
        if len(places) != len(peers) or max(places, default=0) >= len(row_ids):
            raise msgspec.ValidationError("a table does not fit the slice's peers and rows")
        tables[table.identity, table.direction] = {
            peer: row_ids[place] for peer, place in zip(peers, places, strict=True) if place
        }
    return HostSlice(
        packed.revision,
        dict(packed.networks),
        {endpoint.id: endpoint for endpoint in packed.endpoints},
        addresses,
        {classes.id: classes for classes in packed.class_sets},
        {row.id: row for row in packed.rows},
        tables,
        {decision.number: decision for decision in packed.decisions},
    )


def slice_digest(value: HostSlice) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    return digest_of(encode_slice(value))


def digest_of(content: bytes) -> str:
    """The digest of a slice that is encoded already."""
    return hashlib.sha256(content).hexdigest()


def _pack_addresses(addresses: Mapping[PrefixKey, int]) -> _PackedAddresses:
    prefixes: list[tuple[int, str, int]] = []
    hosts: dict[tuple[int, int], list[tuple[bytes, int]]] = {}
    for (network, prefix), identity in addresses.items():
        text, _, length = prefix.partition("/")
        size = 16 if ":" in text else 4
        if int(length) < size * 8:
            prefixes.append((network, prefix, identity))
        else:
            packed = parse_address(text)[0].first.to_bytes(size, "big")
            hosts.setdefault((network, size), []).append((packed, identity))
    columns: list[_Hosts] = []
    for (network, size), entries in sorted(hosts.items()):
        entries.sort()
        identities = _numbers([identity for _, identity in entries], 4)
        columns.append(_Hosts(network, size, b"".join(address for address, _ in entries), identities))
    return sorted(prefixes), columns


def _unpack_hosts(hosts: _Hosts) -> dict[PrefixKey, int]:
    identities = _read(hosts.identities, 4)
    if hosts.size not in (4, 16) or len(hosts.addresses) != hosts.size * len(identities):
        raise msgspec.ValidationError("a network's addresses and identities do not fit each other")
    if hosts.size == 4:
        octets = iter(hosts.addresses)
        texts = [f"{a}.{b}.{c}.{d}/32" for a, b, c, d in zip(octets, octets, octets, octets, strict=True)]
    else:
        content = hosts.addresses
        texts = [f"{IPv6Address(content[i : i + 16])}/128" for i in range(0, len(content), 16)]
    return {(hosts.network, text): identity for text, identity in zip(texts, identities, strict=True)}


def _column(table: Mapping[int, int], peers: Sequence[int], places: Mapping[int, int], width: int) -> bytes:
    try:
        return _numbers([0 if row is None else places[row] for row in map(table.get, peers)], width)
    except KeyError as error:
        raise ConflictError(f"a table of the slice names row {error}, which is not in it") from None


def _numbers(values: Sequence[int], width: int) -> bytes:
    return pack(f"<{len(values)}{_WIDTHS[width]}", *values)


def _read(content: bytes, width: int) -> tuple[int, ...]:
    if len(content) % width:
        raise msgspec.ValidationError("a column of numbers is cut off")
    return unpack(f"<{len(content) // width}{_WIDTHS[width]}", content)
