"""Feedback between hosts (ADR 19): what fills a receiver's downlink, turned into ceilings for the hosts that send it.

A host may complain about what comes to it, and of nothing else: the sources' tenants and hosts, the weights and the
addresses that a ceiling is about are the controller's own knowledge. A sender is told of its own tenants and of addresses
that they have as peers. Nothing here is durable: a ceiling that is not renewed ends on the sender by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hostward.agent.messages import ARRIVALS_LIMIT, ARRIVALS_PERIOD_S, Arrivals, Ceiling, Ceilings
from hostward.controller.fair_rates import FairRates, Source
from hostward.controller.publication import Publication

log = logging.getLogger(__name__)

# A ceiling ends so long after it was last told of, and is told of again in good time, or when it moved by a part.
LIFE_S, RENEW_S, MOVED = 4.0, 1.0, 0.02


@dataclass(slots=True)
class _Told:
    """What one sender was told last, and when."""

    rates: Mapping[str, int] = field(default_factory=dict)
    at_s: float = 0.0


@dataclass(slots=True)
class _Receiver:
    """One host whose downlink is nearly full."""

    number: int
    heard_s: float
    fair: FairRates = field(default_factory=FairRates)
    told: dict[str, _Told] = field(default_factory=dict)
    rates: Mapping[str, int] = field(default_factory=dict)  # what arrives, by tenant
    # What follows from the publication alone: by sender and tenant, the addresses that a ceiling is about.
    publication: Publication | None = None
    addresses: dict[Source, list[str]] = field(default_factory=dict)


class Feedback:
    """Call on the event loop. ``tell`` hands a message to a host's channel, if it has one."""

    def __init__(self, tell: Callable[[str, Ceilings], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        # Of a host, as long as the controller lives: it takes up again what is still told.
        self._numbers: dict[str, int] = {}
        self._receivers: dict[str, _Receiver] = {}
        self.ignored = 0

    def rates(self) -> Mapping[str, Mapping[str, int]]:
        """What arrives in bit/s at hosts whose downlink is nearly full, by host and source tenant."""
        return {host: receiver.rates for host, receiver in self._receivers.items()}

    def ceilings(self) -> Counter[str]:
        """How many ceilings each sender was told and has still."""
        now_s = self._clock()
        return Counter(
            sender
            for receiver in self._receivers.values()
            for sender, told in receiver.told.items()
            if now_s - told.at_s < LIFE_S
            for _ in told.rates
        )

    async def take(self, host: str, arrivals: Arrivals, publication: Publication | None) -> None:
        """A host says what arrives. Faster than agreed, or beyond the limit, it is not listened to."""
        now_s = self._clock()
        receiver = self._receivers.get(host)
        if not arrivals.sources or publication is None:
            if receiver is not None:
                self._pass_on(receiver, {}, now_s)
            self.leave(host)
            return
        if len(arrivals.sources) > ARRIVALS_LIMIT or (
            receiver is not None and now_s - receiver.heard_s < ARRIVALS_PERIOD_S / 2
        ):
            self.ignored += 1
            return
        if receiver is None:
            receiver = self._receivers[host] = _Receiver(self._numbers.setdefault(host, len(self._numbers)), now_s)
            log.info("host %s: its downlink is nearly full", host)
        receiver.heard_s = now_s
        if receiver.publication is not publication:
            receiver.publication, receiver.addresses = publication, {}
        rates, strangers = _by_source(host, arrivals, publication)
        receiver.rates = dict(_sums(rates))
        weights = publication.compiled.policies.effective_platform.shares
        ceilings = receiver.fair.settle(now_s, arrivals.bits_per_s, rates, strangers, weights)
        missing = [source for source in ceilings if source not in receiver.addresses]
        if missing:
            # In a thread: rules are walked, and other hosts' channels must go on.
            found = await asyncio.to_thread(_addresses, host, missing, publication)
            if self._receivers.get(host) is not receiver or receiver.publication is not publication:
                return
            receiver.addresses.update(found)
        self._pass_on(receiver, ceilings, now_s)

    def leave(self, host: str) -> None:
        """A host's downlink is no longer full, or its channel is over: what is told and not lifted ends by itself."""
        if self._receivers.pop(host, None) is not None:
            log.info("host %s: its downlink is no longer full, or its channel is over", host)

    def _pass_on(self, receiver: _Receiver, ceilings: Mapping[Source, int], now_s: float) -> None:
        by_sender: dict[str, dict[str, int]] = {sender: {} for sender in receiver.told}
        for (tenant, sender), rate in ceilings.items():
            if receiver.addresses.get((tenant, sender)):
                by_sender.setdefault(sender, {})[tenant] = rate
        for sender, rates in by_sender.items():
            told = receiver.told.setdefault(sender, _Told())
            if now_s - told.at_s < RENEW_S and not _moved(told.rates, rates):
                continue
            tenants = {tenant: Ceiling(rate, receiver.addresses[tenant, sender]) for tenant, rate in rates.items()}
            self._tell(sender, Ceilings(receiver.number, LIFE_S, tenants))
            if rates:
                receiver.told[sender] = _Told(rates, now_s)
            else:
                del receiver.told[sender]


def _moved(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return before.keys() != now.keys() or any(abs(now[tenant] - rate) > MOVED * rate for tenant, rate in before.items())


def _by_source(host: str, arrivals: Arrivals, publication: Publication) -> tuple[dict[Source, float], float]:
    """The rates by tenant and host of the sources; what no endpoint of another host has sent is the strangers'."""
    compiled = publication.compiled
    networks = sorted({endpoint.network for endpoint in compiled.endpoints_on(host)})
    rates: dict[Source, float] = {}
    strangers = float(arrivals.others)
    for address, rate in arrivals.sources.items():
        owners = (compiled.of_address.get((network, address)) for network in networks)
        # The same address in two networks: the uplink does not tell them apart, and the first is taken.
        owner = next((found[0] for found in owners if found is not None), None)
        if owner is None or owner.host == host:
            strangers += rate
        else:
            source = (owner.tenant, owner.host)
            rates[source] = rates.get(source, 0.0) + rate
    return rates, strangers


def _sums(rates: Mapping[Source, float]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (tenant, _), rate in rates.items():
        sums[tenant] += int(rate)
    return sums


def _addresses(host: str, sources: list[Source], publication: Publication) -> dict[Source, list[str]]:
    """By source, which addresses of the receiver's it has as peers."""
    compiled = publication.compiled
    theirs = [(endpoint.network, address) for endpoint in compiled.endpoints_on(host) for address in endpoint.addresses]
    return {
        (tenant, sender): sorted({address for _, address in compiled.peers_among(sender, tenant, theirs)})
        for tenant, sender in sources
    }
