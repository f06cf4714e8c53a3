"""A scrape of an agent: one reading for all who come together, and none that waits for a busy enforcer."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent import enforcement as module
from hostward.agent.enforcement import Enforcement
from hostward.agent.event_pump import EventPump
from hostward.agent.metrics import AgentMetrics
from hostward.agent.sampling import SamplePump
from hostward.datapath.readings import EndpointReading, Fill, Readings
from hostward.export.metrics.page import Page


class _Counting(ModelEnforcer):
    """Counts how often it is read, and is as slow as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.free = threading.Event()
        self.free.set()

    def readings(self) -> Readings:
        self.free.wait(30)
        self.read += 1
        endpoints = {
            f"acme/e{place}": EndpointReading("acme", place, place, 10, {"policy": place}, 1, 0) for place in (1, 2, 3)
        }
        return Readings(endpoints, {"policy": 6}, 1, 2, 3, 4, 5, {"flows": Fill(6, 30)}, {"syn-flood": 2})


async def _page(metrics: AgentMetrics) -> str:
    page = Page()
    await metrics.add_to(page)
    return page.written("")[0].decode()


def test_who_comes_together_shares_a_reading(tmp_path: Path) -> None:
    async def run() -> None:
        enforcer = _Counting()
        enforcement = Enforcement(enforcer, tmp_path)
        metrics = AgentMetrics(enforcement, EventPump(), SamplePump(), None, 2)
        pages = await asyncio.gather(*(_page(metrics) for _ in range(20)))
        assert enforcer.read == 1
        assert len(pages) == 20
        await enforcement.close()

    asyncio.run(run())


def test_a_busy_enforcer_holds_up_neither_the_loop_nor_the_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READING_LIFE_S", 0.0)
    monkeypatch.setattr(module, "READING_LIMIT_S", 0.05)

    async def run() -> None:
        enforcer = _Counting()
        enforcement = Enforcement(enforcer, tmp_path)
        metrics = AgentMetrics(enforcement, EventPump(), SamplePump(), None, 2)
        await _page(metrics)
        enforcer.free.clear()
        # Were the loop held up, nothing would come of this before the enforcer is free again.
        stale = await asyncio.wait_for(_page(metrics), 20)
        assert "hostward_passed_packets_total 1.0" in stale
        assert enforcer.read == 1
        enforcer.free.set()
        await enforcement.close()

    asyncio.run(run())


def test_endpoints_beyond_the_configured_number_are_one_sum(tmp_path: Path) -> None:
    async def run() -> None:
        enforcement = Enforcement(_Counting(), tmp_path)
        page = await _page(AgentMetrics(enforcement, EventPump(), SamplePump(), None, 1))
        flows = [line for line in page.splitlines() if line.startswith("hostward_endpoint_flows{")]
        assert flows == [
            'hostward_endpoint_flows{endpoint="acme/e1",tenant="acme"} 1.0',
            'hostward_endpoint_flows{endpoint="other",tenant=""} 5.0',
        ]
        assert 'hostward_endpoint_flow_quota{endpoint="other",tenant=""} 20.0' in page
        # Over all of them, whoever has a name.
        assert "hostward_endpoint_quota_used_max_ratio 0.3" in page
        await enforcement.close()

    asyncio.run(run())
