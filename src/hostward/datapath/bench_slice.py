"""The slices that `bench datapath` measures: one local endpoint, as many peers and rules as asked.

Every rule is a decision of its own, and no two rows are equal: nothing that real policy would share is shared here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from hostward.model.endpoint import Port, Quota
from hostward.model.slice import FIRST_IDENTITY, IDENTITY_INTERNET, ClassSet, Decision, HostSlice, LocalEndpoint, Row

ENDPOINT = "bench/local"
MAC = "02:00:00:00:00:01"
LOCAL = {4: "10.0.0.1", 6: "fd00::1"}
# Peers have consecutive addresses from here; the last 32 bits are the same in both families.
FIRST_PEER = int(IPv4Address("10.1.0.0"))
PEER_PREFIX = {4: 0, 6: int(IPv6Address("fd00:1::"))}
# New flows are bounded as every endpoint's are, but beyond what a test run reaches.
_OPENINGS_PER_S = 1_000_000_000
_NETWORK = 0
_CLASS_SET = 1
# Cuts of the port space of one row, below the policy language's bound of 1,024.
_CLASSES = 1_000
# Peers next to each other are told apart by different rows.
_SPREAD = 37


@dataclass(frozen=True, slots=True)
class Scenario:
    """How much policy a measurement runs under."""

    rules: int
    endpoints: int  # peers with a prefix of their own, in each family
    flows: int = 100_000

    @property
    def quota(self) -> Quota:
        """Half-open flows give way when a quota is three quarters full: all that are opened at once must stay below."""
        return Quota(flows=self.flows * 3 // 2, openings_per_s=_OPENINGS_PER_S)

    @property
    def classes(self) -> int:
        """Ports are cut into this many classes, one rule of each row for each."""
        return min(self.rules, _CLASSES)

    @property
    def rows(self) -> int:
        """Peer identities, each with its own row of rules."""
        return self.rules // self.classes

    def service_port(self, *, allowed: bool) -> int:
        """A TCP port of the middle of the port space that the rules about every peer allow, or deny."""
        middle = self.classes // 2
        return (middle + (middle % 2 if allowed else 1 - middle % 2)) * self._width

    @property
    def _width(self) -> int:
        return 65_536 // self.classes

    def class_set(self) -> ClassSet:
        """TCP's ports in classes of one width."""
        tcp = tuple((number * self._width, number) for number in range(self.classes))
        rest = ((0, 0),)
        return ClassSet(_CLASS_SET, tcp, rest, rest, rest, rest, rest)


def peer_address(family: int, number: int) -> str:
    """The address of one peer."""
    last = FIRST_PEER + number
    return str(IPv4Address(last)) if family == 4 else str(IPv6Address(PEER_PREFIX[6] + last))


def build_slice(scenario: Scenario) -> HostSlice:
    """The slice of a scenario. Rules of even classes allow, of odd ones deny."""
    decisions: dict[int, Decision] = {}
    rows: dict[int, Row] = {}
    for row in range(scenario.rows):
        numbers = range(row * scenario.classes + 1, (row + 1) * scenario.classes + 1)
        for port_class, number in enumerate(numbers):
            decisions[number] = Decision(number, "deny" if port_class % 2 else "allow", (f"bench/rule-{number}",))
        rows[row + 1] = Row(row + 1, _CLASS_SET, tuple(numbers))
    local = FIRST_IDENTITY
    peers = [local + 1 + row for row in range(scenario.rows)]
    addresses = {(_NETWORK, "0.0.0.0/0"): IDENTITY_INTERNET, (_NETWORK, "::/0"): IDENTITY_INTERNET}
    for family, bits in ((4, 32), (6, 128)):
        addresses[_NETWORK, f"{LOCAL[family]}/{bits}"] = local
        for number in range(scenario.endpoints):
            identity = peers[number * _SPREAD % len(peers)]
            addresses[_NETWORK, f"{peer_address(family, number)}/{bits}"] = identity
    table = dict(zip(peers, rows, strict=True))
    endpoint = LocalEndpoint(
        ENDPOINT, "bench", _NETWORK, MAC, dict.fromkeys(LOCAL.values(), local), Port("hostward-bench"), scenario.quota
    )
    return HostSlice(
        revision=1,
        networks={_NETWORK: "bench"},
        endpoints={ENDPOINT: endpoint},
        addresses=addresses,
        class_sets={_CLASS_SET: scenario.class_set()},
        rows=rows,
        tables={(local, "egress"): table, (local, "ingress"): dict(table)},
        decisions=decisions,
    )
