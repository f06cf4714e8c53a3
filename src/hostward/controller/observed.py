"""What was observed of each flow, over hours, in bounded memory: `flows` keeps single events, this keeps their sums.

An endpoint is kept by name: when its address changes it is still the same party, and when another endpoint gets that
address it is another. Bounds, each of them visible in ``evicted_since``:

* so many flows in all, and so many of the endpoint that reported them first: one endpoint that scans pushes out its own;
* for each service so many single outside addresses, then /24 and /64 prefixes, then wider ones, at last everything.

Nothing here is written down: after a restart of the controller ``since`` says from when on it knows.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from hostward.agent.messages import Events
from hostward.model.endpoint import Endpoint
from hostward.model.flow import FlowEvent
from hostward.model.observed import ObservedFlow, Party
from hostward.model.slice import IDENTITY_HOST, IDENTITY_UNKNOWN
from hostward.policy.subjects import Subject

KEEP = 65_536
KEEP_FOR_ENDPOINT = 2_048
OUTSIDE_PEERS = 64
# Evictions are counted by the minute in which their flow was last seen; longer windows are not asked for.
EVICTIONS_KEPT = timedelta(days=2)

# Denials for these reasons are the policy's; the others (spoofing, quotas, fragments) say nothing about its rules.
_POLICY_REASONS = ("", "policy", "unknown-peer")
_WIDTHS = {4: (32, 24, 16, 0), 6: (128, 64, 48, 0)}
_STRICTNESS = {"allow": 0, "would-deny": 1, "deny": 2}

# Network, endpoint, "the endpoint opened", protocol, port.
_Service = tuple[str, str, bool, int, int]
# Network, source (endpoint id or prefix), destination, protocol, port.
_Key = tuple[str, str, str, int, int]
Owners = Mapping[tuple[str, str], tuple[Endpoint, Subject]]


@dataclass(slots=True)
class _Leg:
    """What one end's host reported: both ends of a flow between two endpoints do."""

    revision: int = -1
    verdict: str = ""
    rules: tuple[str, ...] = ()
    openings: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Sum:
    owner: str
    service: _Service | None
    source: Party
    destination: Party
    first_ns: int
    last_ns: int
    others: bool = False
    legs: dict[str, _Leg] = field(default_factory=dict)


class Observed:
    """The sums. Call from the event loop's thread."""

    def __init__(self, since: datetime, *, keep: int = KEEP, keep_for_endpoint: int = KEEP_FOR_ENDPOINT) -> None:
        self.since = since
        self.unattributed = 0
        self.with_machines = 0  # between an endpoint and the machine under it: not kept
        self._keep = keep
        self._keep_for_endpoint = keep_for_endpoint
        self._sums: OrderedDict[_Key, _Sum] = OrderedDict()
        self._of_owner: dict[str, OrderedDict[_Key, None]] = {}
        self._outside: dict[_Service, dict[int, set[str]]] = {}
        self._evicted: Counter[int] = Counter()

    def add(self, batch: Events, owners: Owners) -> None:
        """Take a batch; ``owners`` says by (network, address) which endpoint has an address, and its identity there."""
        for event in batch.events:
            if event.verdict in _STRICTNESS and event.reason in _POLICY_REASONS and event.protocol:
                self._take(event, owners)

    def flows(self, since: datetime) -> list[ObservedFlow]:
        """Everything last seen at or after ``since``, the newest first."""
        start_ns = int(since.timestamp() * 1e9)
        found = [(key, held) for key, held in self._sums.items() if held.last_ns >= start_ns]
        return [_flow(key, held) for key, held in sorted(found, key=lambda pair: -pair[1].last_ns)]

    def evicted_since(self, since: datetime) -> int:
        """How many flows last seen since then are no longer kept; by whole minutes, so it may name a few too many."""
        first = int(since.timestamp()) // 60
        return sum(count for minute, count in self._evicted.items() if minute >= first)

    def _take(self, event: FlowEvent, owners: Owners) -> None:
        if event.peer == IDENTITY_HOST:
            # Which addresses are a machine's only the machine knows: asked again they would be somebody else's.
            self.with_machines += 1
            return
        out = event.direction == "egress"
        own, other = (event.source, event.destination) if out else (event.destination, event.source)
        owner = owners.get((event.network, other))
        # The host names the peer that it decided about. If that is not who has the address now, it is somebody before.
        if owner is not None and event.peer not in (0, IDENTITY_UNKNOWN, owner[1].identity):
            self.unattributed += 1
            return
        local = Party(event.endpoint, own)
        service: _Service | None = None
        if owner is not None:
            peer = Party(owner[0].id, other)
        else:
            service = (event.network, event.endpoint, out, event.protocol, event.destination_port)
            peer = Party("", other, self._covering(service, other))
        source, destination = (local, peer) if out else (peer, local)
        key = (event.network, _name(source), _name(destination), event.protocol, event.destination_port)
        held = self._sums.get(key)
        if held is None:
            held = self._sums[key] = _Sum(event.endpoint, service, source, destination, event.time_ns, event.time_ns)
            self._of_owner.setdefault(held.owner, OrderedDict())[key] = None
            if service is not None:
                prefix = ip_network(peer.prefix)
                self._outside.setdefault(service, {}).setdefault(prefix.prefixlen, set()).add(peer.prefix)
        self._sums.move_to_end(key)
        self._of_owner[held.owner].move_to_end(key)
        _sum_up(held, event, source, destination)
        self._make_room(held.owner)

    def _covering(self, service: _Service, address: str) -> str:
        """The address alone, or the narrowest prefix around it for which the service has room."""
        kept = self._outside.get(service, {})
        widths = _WIDTHS[4 if "." in address else 6]
        for width in widths:
            prefix = str(ip_network(f"{address}/{width}", strict=False))
            known = kept.get(width, ())
            if prefix in known or len(known) < OUTSIDE_PEERS:
                return prefix
        return str(ip_network(f"{address}/{widths[-1]}", strict=False))

    def _make_room(self, owner: str) -> None:
        if len(self._of_owner[owner]) > self._keep_for_endpoint:
            self._evict(next(iter(self._of_owner[owner])))
        if len(self._sums) > self._keep:
            self._evict(next(iter(self._sums)))

    def _evict(self, key: _Key) -> None:
        gone = self._sums.pop(key)
        del self._of_owner[gone.owner][key]
        if not self._of_owner[gone.owner]:
            del self._of_owner[gone.owner]
        if gone.service is not None:
            prefix = gone.source.prefix or gone.destination.prefix
            kept = self._outside[gone.service]
            kept[ip_network(prefix).prefixlen].discard(prefix)
            if not any(kept.values()):
                del self._outside[gone.service]
        self._evicted[gone.last_ns // 60_000_000_000] += 1
        oldest = gone.last_ns // 60_000_000_000 - int(EVICTIONS_KEPT.total_seconds()) // 60
        if len(self._evicted) > EVICTIONS_KEPT.total_seconds() // 60:
            self._evicted = Counter({minute: n for minute, n in self._evicted.items() if minute > oldest})


def _name(party: Party) -> str:
    return party.endpoint or party.prefix


def _sum_up(held: _Sum, event: FlowEvent, source: Party, destination: Party) -> None:
    held.source, held.destination = source, destination
    held.first_ns, held.last_ns = min(held.first_ns, event.time_ns), max(held.last_ns, event.time_ns)
    held.others |= event.others
    leg = held.legs.setdefault(event.direction, _Leg())
    leg.packets += event.packets
    leg.bytes += event.bytes
    leg.openings += event.kind in ("new", "denied")
    # The end of a flow tells again what was decided at its beginning: it does not outweigh a later revision's denial.
    if event.revision > leg.revision or (event.revision == leg.revision and event.kind in ("new", "denied")):
        leg.revision, leg.verdict, leg.rules = event.revision, event.verdict, event.rules


def _flow(key: _Key, held: _Sum) -> ObservedFlow:
    network, _, _, protocol, port = key
    legs = list(held.legs.values())
    # A flow passes if both ends let it pass.
    deciding = max(legs, key=lambda leg: _STRICTNESS[leg.verdict])
    return ObservedFlow(
        network,
        held.source,
        held.destination,
        protocol,
        port,
        datetime.fromtimestamp(held.first_ns / 1e9, UTC),
        datetime.fromtimestamp(held.last_ns / 1e9, UTC),
        # Both ends count the same flow.
        max(leg.openings for leg in legs),
        max(leg.packets for leg in legs),
        max(leg.bytes for leg in legs),
        deciding.verdict,
        deciding.rules,
        deciding.revision,
        held.others,
    )
