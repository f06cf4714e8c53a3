"""Small random slices, and the verdict that a slice itself gives: what the tables have to say whatever their history."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Port, Quota
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row

CAPACITY = Capacity(endpoints=8, flows=4_096, cells=512, refs=4_096, prefixes=256, decisions=64, class_sets=16)
REMOTES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.9", "192.0.2.7", "198.51.100.1")
PREFIXES = ("10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "192.0.2.0/24", "192.0.2.7/32")
LOCALS = {"t/a": "10.0.0.101", "t/b": "10.0.0.102", "u/c": "10.0.0.103"}
PORTS = (0, 22, 79, 80, 81, 443)
DECISIONS = {
    1: Decision(1, "deny", ("t/default-deny",)),
    2: Decision(2, "allow", ("t/one",)),
    3: Decision(3, "would-deny", ("t/two",)),
    4: Decision(4, "allow", ("t/three",), log=True),
    5: Decision(5, "deny", ("t/four",), reject=True),
}


_network = cache(ip_network)


def class_set(identifier: int, cuts: tuple[int, ...]) -> ClassSet:
    """TCP cut at the given ports, each piece a class of its own; every other protocol is class 0."""
    tcp = tuple((edge, index) for index, edge in enumerate((0, *cuts)))
    return ClassSet(identifier, tcp, ((0, 0),), ((0, 0),), ((0, 0),), ((0, 0),), ((0, 0),))


@st.composite
def slices(draw: st.DrawFn, revision: int) -> HostSlice:
    """Any consistent slice over the constants above."""
    names = draw(st.lists(st.sampled_from(sorted(LOCALS)), unique=True))
    identities = st.sampled_from((300, 301, 302, 303))
    addresses = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1}
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True)):
        addresses[0, prefix] = draw(st.sampled_from((1, 2, 300, 301, 302, 303)))
    sets = {n: class_set(n, tuple(draw(st.sampled_from(((), (80,), (80, 81), (22, 80, 443)))))) for n in (11, 12)}
    rows: dict[int, Row] = {}
    for row_id in range(20, 24):
        chosen = draw(st.sampled_from((11, 12)))
        count = len(sets[chosen].tcp)
        cells = draw(st.lists(st.sampled_from(sorted(DECISIONS)), min_size=count, max_size=count))
        rows[row_id] = Row(row_id, chosen, tuple(cells))
    endpoints: dict[str, LocalEndpoint] = {}
    tables: dict[tuple[int, str], dict[int, int]] = {}
    for index, name in enumerate(sorted(names)):
        identity = draw(identities)
        mac = f"02:00:00:00:00:{index:02x}"
        endpoints[name] = LocalEndpoint(name, name[0], 0, mac, {LOCALS[name]: identity}, Port(f"p{index}"), Quota(64))
        for direction in ("egress", "ingress"):
            peers = draw(st.lists(st.sampled_from((1, 300, 301, 302, 303)), unique=True))
            tables[identity, direction] = {peer: draw(st.sampled_from(sorted(rows))) for peer in peers}
    return HostSlice(revision, {0: "default"}, endpoints, addresses, sets, rows, tables, DECISIONS)


def answer(value: HostSlice, name: str, direction: str, remote: str, port: int) -> str:
    """The verdict of a slice for a TCP packet that opens a flow, straight from the slice's own definition."""
    endpoint = value.endpoints[name]
    local = endpoint.addresses[LOCALS[name]]
    address = ip_address(remote)
    containing = [key for key in value.addresses if address in _network(key[1])]
    peer = value.addresses[max(containing, key=lambda key: _network(key[1]).prefixlen)]
    row_id = value.tables[local, direction].get(peer)
    if row_id is None:
        return "unknown-peer"
    row = value.rows[row_id]
    decision = value.decisions[row.cells[value.class_sets[row.class_set].class_of(6, port)]]
    return f"{decision.verdict} {decision.number}"
