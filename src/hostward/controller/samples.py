"""The newest samples of all hosts, with endpoints' names, and what they estimate: bounded, and in memory alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from hostward.agent.messages import Samples as Batch
from hostward.controller.event_ring import EventRing
from hostward.controller.flows import FlowFilter, protocol_word
from hostward.model.endpoint import Endpoint
from hostward.model.sample import Estimate, PacketSample, SampleTotal, estimate
from hostward.policy.subjects import Subject

KEEP = 32_768
# Directions times verdicts.
_CLASSES = 8
# By (network, address).
Owners = Mapping[tuple[str, str], tuple[Endpoint, Subject]]
_Line = dict[str, object]


class Samples:
    """A ring of described samples and sums, the newest sum of each endpoint, and those who follow them."""

    def __init__(self) -> None:
        self._ring: EventRing[_Line] = EventRing(KEEP)
        self._totals: dict[str, _Line] = {}

    def add(self, host: str, batch: Batch, owners: Owners, endpoints: Mapping[str, Endpoint], now: datetime) -> None:
        """Take a host's batch; ``endpoints`` are all by id. What a host says of another's endpoints is left out."""
        own = {name for name in {*batch.totals, *(s.endpoint for s in batch.samples)} if _is_on(host, name, endpoints)}
        samples = [
            describe(host, sample, endpoints[sample.endpoint].tenant, owners)
            for sample in batch.samples
            if sample.endpoint in own
        ]
        totals = {
            name: describe_total(host, endpoints[name], total, now)
            for name, total in batch.totals.items()
            if name in own
        }
        self._totals.update(totals)
        for name in self._totals.keys() - endpoints.keys():
            del self._totals[name]
        self._ring.add([*samples, *totals.values()])

    def newest(self, wanted: FlowFilter, limit: int) -> list[_Line]:
        """The newest matching samples, oldest first, and behind them the sum of every matching endpoint."""
        samples = self._ring.newest(lambda line: line["kind"] == "sample" and wanted.matches(line), limit)
        totals = [total for _, total in sorted(self._totals.items()) if _wants(wanted, total)]
        return [*(wanted.seen(sample) for sample in samples), *totals]

    async def follow(self, wanted: FlowFilter) -> AsyncIterator[_Line]:
        """Matching samples and sums from now on (from ``since``, if that is given)."""

        def matches(line: _Line) -> bool:
            return wanted.matches(line) if line["kind"] == "sample" else _wants(wanted, line)

        async for line in self._ring.follow(matches, kept=wanted.since is not None):
            yield wanted.seen(line) if line["kind"] == "sample" else line


def _is_on(host: str, name: str, endpoints: Mapping[str, Endpoint]) -> bool:
    return name in endpoints and endpoints[name].host == host


def _wants(wanted: FlowFilter, total: _Line) -> bool:
    """A sum has no ends and many verdicts: it is wanted of one's own endpoints, and of one that is named."""
    if wanted.tenants is not None and total["tenant"] not in wanted.tenants:
        return False
    name = str(total["endpoint"])
    named = [side for side in (wanted.source, wanted.destination) if side]
    return not named or any(side in (name, name.partition("/")[2]) for side in named)


def _time_text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def describe(host: str, sample: PacketSample, tenant: str, owners: Owners) -> _Line:
    """One sample as `observe --samples` shows it."""
    out = sample.direction == "egress"

    def side(address: str, port: int, *, local: bool) -> _Line:
        known = owners.get((sample.network, address))
        name = sample.endpoint if local else known[0].id if known else None
        identity = None if local else sample.peer or None
        process = sample.process if local else ""
        return {"ip": address, "port": port, "endpoint": name, "identity": identity, "process": process or None}

    return {
        "kind": "sample",
        "time": _time_text(datetime.fromtimestamp(sample.time_ns / 1e9, UTC)),
        "host": host,
        "endpoint": sample.endpoint,
        "tenant": tenant,
        "network": sample.network,
        "direction": sample.direction,
        "verdict": sample.verdict,
        "reason": sample.reason,
        "rule": sample.rules[0] if sample.rules else "",
        "rules": list(sample.rules),
        "src": side(sample.source, sample.source_port, local=out),
        "dst": side(sample.destination, sample.destination_port, local=not out),
        "proto": protocol_word(sample.protocol),
        "ethertype": sample.ethertype,
        "bytes": sample.bytes,
        "segments": sample.segments,
        "rate": sample.rate,
    }


def describe_total(host: str, endpoint: Endpoint, total: SampleTotal, now: datetime) -> _Line:
    """What was sampled of one endpoint, and what that estimates: as a whole, and of each direction and verdict."""
    return {
        "kind": "total",
        "time": _time_text(now),
        "host": host,
        "endpoint": endpoint.id,
        "tenant": endpoint.tenant,
        "rate": total.rate,
        "pool": total.counts.pool,
        "taken": total.counts.taken,
        "lost": total.counts.lost,
        "untold": total.untold,
        **_estimate(estimate(total, *total.classes)),
        "classes": [
            {"direction": one.direction, "verdict": one.verdict, **_estimate(estimate(total, one))}
            for one in sorted(total.classes[:_CLASSES], key=lambda one: (one.direction, one.verdict))
        ],
    }


def _estimate(found: Estimate) -> _Line:
    errors = (found.error_percent, found.bytes_error_percent) if found.samples else (None, None)
    return {
        "samples": found.samples,
        "packets": found.packets,
        "bytes": found.bytes,
        "error_percent": errors[0] and round(errors[0], 3),
        "bytes_error_percent": errors[1] and round(errors[1], 3),
    }
