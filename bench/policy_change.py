"""One rule more for two thousand hosts: what a controller does before it commits (world (a) of ``compiler_world``).

Measured is the whole commit over a store in memory, so the disk is not in it: remembering what is revoked, compiling, and
seeing that every host can hold the revision. No host is connected, so nothing is sent. Endpoints have a quarter of the
usual quota of flows, because fifty of the usual size are more than a host's default limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from resource import RUSAGE_SELF, getrusage

from bench.compiler_world import TENANT
from hostward.controller.fleet import Fleet
from hostward.controller.flows import Flows
from hostward.controller.ledger import Ledger
from hostward.controller.observed import Observed
from hostward.controller.publisher import Plan, Publisher
from hostward.model.endpoint import Endpoint, Quota
from hostward.policy import PolicySet, parse_sources
from hostward.store.memory import MemoryStore
from hostward.store.records import Change, HostRecord, HostState

_QUOTA = Quota(flows=4_096)
_RULE = "  - allow g0 to g1 on tcp/9999\n"


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One process's figures; ``commit_s`` holds the compilation, ``peak_mib`` the world."""

    hosts: int
    commit_s: float
    peak_mib: float


def measure(text: str, endpoints: Sequence[Endpoint], now: datetime) -> PolicyChange:
    """Commit the tenant's policy for the endpoints' hosts, then the same with one rule more, which is what counts."""
    names = {endpoint.host for endpoint in endpoints}
    record = HostRecord("", HostState.ADMITTED, now, (), now + timedelta(days=1))
    placed = {endpoint.id: replace(endpoint, quota=_QUOTA) for endpoint in endpoints}
    store = MemoryStore()
    hosts = {name: replace(record, name=name) for name in names}
    store.commit(0, Change(now, "bench", "the world", endpoints=placed, hosts=hosts))
    commit_s = asyncio.run(_commit(store, [_read(text), _read(text.replace("rules:\n", "rules:\n" + _RULE))], now))
    return PolicyChange(len(names), commit_s, getrusage(RUSAGE_SELF).ru_maxrss / 1024)


def _read(text: str) -> PolicySet:
    return parse_sources([(f"{TENANT}.yaml", text.encode())])


async def _commit(store: MemoryStore, policies: Sequence[PolicySet], now: datetime) -> float:
    """Commit each in turn; how long the last one took."""
    ledger = Ledger(store)
    publisher = Publisher(ledger, Fleet(lambda _host, _events: None), Flows(), Observed(now), lambda: now)
    await publisher.start()
    took_s = 0.0
    for each in policies:
        start = time.perf_counter()
        async with ledger.changing:
            await publisher.commit(Plan("bench", "a change of policy", policies=each))
        took_s = time.perf_counter() - start
    publisher.stop()
    return took_s
