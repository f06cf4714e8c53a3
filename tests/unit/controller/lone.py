"""A controller in memory with endpoints and no host's agent, for tests of what it decides; its clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hostward.agent.messages import Events
from hostward.controller.authority import HOST_LIFE, open_authority
from hostward.controller.fleet import Fleet
from hostward.controller.ledger import Ledger
from hostward.controller.membership import Membership
from hostward.controller.service import Controller
from hostward.model.endpoint import Endpoint, Port
from hostward.model.flow import FlowEvent
from hostward.store.memory import MemoryStore
from hostward.store.protocol import Store
from hostward.store.records import Change, HostRecord, HostState

# Of now, because the lives of certificates are checked against the real time too.
START = datetime.now(UTC).replace(microsecond=0)


class Clock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class Lone:
    """The controller, its clock, and events as a host would report them."""

    def __init__(self, folder: Path, store: Store | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = store or MemoryStore()
        ledger = Ledger(self.store)
        authority = open_authority(folder / "ca", START)
        self.fleet = Fleet(lambda _host, _events: None)
        self.controller = Controller(ledger, Membership(ledger, authority, self.clock, HOST_LIFE), self.fleet)

    async def saw(self, source: str, destination: str, port: int, **more: Any) -> None:
        """Report a flow at the clock's time, see ``report``."""
        report(self.fleet, self.clock(), source, destination, port, **more)


def report(
    fleet: Fleet,
    now: datetime,
    source: str,
    destination: str,
    port: int,
    *,
    verdict: str = "allow",
    kind: str = "",
    packets: int = 1,
    protocol: int = 6,
    rules: tuple[str, ...] = (),
    peer: int | None = None,
    network: str = "default",
) -> None:
    """Report a flow between endpoints (``tenant/name``) or addresses, from every end that is an endpoint."""
    target = fleet.target
    assert target is not None
    attached = {e.id: (e, s) for e, s in target.compiled.of_address.values()}
    kind = kind or ("denied" if verdict == "deny" else "new")
    for direction, local, remote in (("egress", source, destination), ("ingress", destination, source)):
        if local not in attached or (verdict == "deny" and direction == "ingress" and source in attached):
            continue
        owner = attached[local][0]
        far = attached.get(remote)
        addresses = [attached[name][0].addresses[0] if name in attached else name for name in (source, destination)]
        event = FlowEvent(
            int(now.timestamp() * 1e9),
            kind,
            verdict,
            "" if verdict == "allow" else "policy",
            1,
            rules or (f"{owner.tenant}/default-deny",),
            target.revision,
            local,
            owner.tenant,
            network,
            direction,
            protocol,
            addresses[0],
            40_000,
            addresses[1],
            port,
            attached[local][1].identity,
            peer if peer is not None else far[1].identity if far else 1,
            packets,
            packets * 100,
        )
        fleet.on_events(owner.host, Events([event], 0))


def endpoint(identifier: str, address: str, host: str = "h1", **labels: str) -> Endpoint:
    tenant, _, name = identifier.partition("/")
    return Endpoint(tenant, name, labels, "02:00:00:00:00:01", (address,), host, Port(name))


async def lone(folder: Path, *endpoints: Endpoint, policy: str = "", files: tuple[str, ...] = ()) -> Lone:
    """Started, with the endpoints on host h1 and the policies applied."""
    made = Lone(folder)
    host = HostRecord("h1", HostState.ADMITTED, START, (), START + timedelta(days=1))
    made.store.commit(0, Change(START, "test", "begin", endpoints={e.id: e for e in endpoints}, hosts={"h1": host}))
    again = Lone(folder, made.store, made.clock)
    await again.controller.start()
    texts = [text for text in (policy, *files) if text]
    if texts:
        await again.controller.apply([(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)], "tester")
    return again


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(work)
