"""The agent's ends of feedback: bounded in what it takes on, lets go by itself, and never in the way of anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from hostward.agent import feedback as module
from hostward.agent.feedback import ADDRESSES_LIMIT, RECEIVERS_LIMIT, Feedback
from hostward.agent.measures import Measures
from hostward.agent.messages import (
    ARRIVALS_LIMIT,
    Arrivals,
    Ceiling,
    Ceilings,
    decode_from_agent,
    decode_from_controller,
    encode,
)
from hostward.datapath.downlink import Arrived
from hostward.datapath.uplink import Ceiling as Held
from hostward.datapath.uplink import Uplink, UplinkSettings
from hostward.errors import DeviceError


class ModelUplink(Uplink):
    """Remembers what it was given; the device is away while ``away``."""

    def __init__(self) -> None:
        super().__init__(UplinkSettings("none", 1_000, downlink_bits_per_s=0))
        self.given: list[list[Held]] = []
        self.away = False

    def restrain(self, ceilings: Iterable[Held]) -> None:
        if self.away:
            raise DeviceError("the device is not there", subject="none")
        self.given.append(list(ceilings))


class ModelDownlink:
    """A link with the rate, and the sources, that the test sets."""

    def __init__(self) -> None:
        self.now = 0
        self.arrived = Arrived({}, 0)
        self.counting: frozenset[str] | None = None

    def rate(self) -> int:
        return self.now

    def count(self, pools: Iterable[str]) -> None:
        self.counting = frozenset(pools)

    def take(self) -> Arrived:
        return self.arrived

    def stop(self) -> None:
        self.counting = None


@pytest.fixture
def uplink() -> ModelUplink:
    return ModelUplink()


def made(uplink: ModelUplink | None) -> tuple[Feedback, Measures]:
    measures = Measures()
    return Feedback(uplink, lambda: {"10.0.0.0/8"}, measures), measures


def asked(receiver: int, life_s: float = 60.0, **rates: int) -> Ceilings:
    return Ceilings(receiver, life_s, {tenant: Ceiling(rate, ["10.0.0.1"]) for tenant, rate in rates.items()})


def test_what_receivers_ask_for_is_kept_replaced_and_let_go(uplink: ModelUplink) -> None:
    async def run() -> None:
        feedback, _ = made(uplink)
        feedback.obey(asked(1, acme=10, beta=20))
        feedback.obey(asked(2, acme=30))
        await feedback.step()
        await feedback.step()
        feedback.obey(asked(1, acme=11))
        feedback.obey(asked(2))
        await feedback.step()
        feedback.obey(asked(1, life_s=1e-9, acme=12))
        await feedback.step()
        feedback.close()
        rates = [[(one.tenant, one.receiver, one.bits_per_s) for one in given] for given in uplink.given]
        assert rates == [[("acme", 1, 10), ("beta", 1, 20), ("acme", 2, 30)], [("acme", 1, 11)], []]

    asyncio.run(run())


def test_receivers_and_addresses_are_bounded(uplink: ModelUplink) -> None:
    async def run() -> None:
        feedback, measures = made(uplink)
        many = [f"10.0.{n // 256}.{n % 256}" for n in range(ADDRESSES_LIMIT + 5)]
        for receiver in range(RECEIVERS_LIMIT + 3):
            feedback.obey(Ceilings(receiver, 60, {"acme": Ceiling(1, many)}))
        await feedback.step()
        feedback.close()
        (given,) = uplink.given
        assert len(given) == RECEIVERS_LIMIT
        assert {len(one.addresses) for one in given} == {ADDRESSES_LIMIT}
        assert measures.ceilings_refused == 3

    asyncio.run(run())


def test_a_device_that_is_away_is_told_of_once(uplink: ModelUplink, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        feedback, _ = made(uplink)
        uplink.away = True
        for rate in (10, 11):
            feedback.obey(asked(1, acme=rate))
            assert await feedback.step() is None
        feedback.close()

    asyncio.run(run())
    assert [record.message for record in caplog.records] == ["feedback between hosts: none: the device is not there"]


def test_a_host_without_an_uplink_takes_no_notice() -> None:
    async def run() -> None:
        feedback, _ = made(None)
        feedback.obey(asked(1, acme=10))
        assert await feedback.step() is None
        feedback.close()

    asyncio.run(run())


def test_sources_are_told_apart_while_the_downlink_is_nearly_full(
    uplink: ModelUplink, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = ModelDownlink()
    uplink.settings = UplinkSettings("none", 1_000, downlink_bits_per_s=1_000)
    monkeypatch.setattr(module, "Downlink", lambda _uplink: link)
    monkeypatch.setattr(module, "QUIET_S", 0.0)

    async def run() -> list[Arrivals | None]:
        feedback, _ = made(uplink)
        await feedback.step()  # what an agent before it left is gone
        assert link.counting is None
        said = []
        for rate in (500, 790, 810, 990, 490):
            link.now = rate
            said.append(await feedback.step())
            assert link.counting == ({"10.0.0.0/8"} if rate > 800 else None)
        feedback.close()
        return said

    sources = {f"10.0.{n // 256}.{n % 256}": n for n in range(ARRIVALS_LIMIT + 3)}
    link.arrived = Arrived(sources, 7)
    quiet, below, begins, full, over = asyncio.run(run())
    assert quiet is below is begins is None
    assert full is not None
    assert len(full.sources) == ARRIVALS_LIMIT
    assert min(full.sources.values()) == 3
    assert sum(full.sources.values()) + full.others == sum(sources.values()) + 7
    assert over == Arrivals(1_000, {}, 0)


@pytest.mark.parametrize(
    "wrong", [Arrivals(0, {}, 0), Arrivals(1, {"10.0.0.1": -1}, 0), Arrivals(1, {}, -1)], ids=["link", "rate", "others"]
)
def test_reports_of_nonsense_are_no_messages(wrong: Arrivals) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_from_agent(encode(wrong))


@pytest.mark.parametrize("wrong", [asked(1, acme=0), asked(1, life_s=0.0), asked(1, life_s=1e9)])
def test_ceilings_of_nonsense_are_no_messages(wrong: Ceilings) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_from_controller(encode(wrong))
