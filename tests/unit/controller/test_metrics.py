"""A controller's metrics and its hosts' talkers, over the real channel with a model of the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.controller.test_channel import ACME, Site, _endpoint, site
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent.messages import TALKERS_LIMIT
from hostward.api.listings import hosts
from hostward.controller.metrics import ControllerMetrics
from hostward.datapath.enforcer import EndpointStatus
from hostward.datapath.readings import Talker
from hostward.errors import CapacityError
from hostward.export.metrics.page import Page
from hostward.model.endpoint import EndpointState
from hostward.store.records import HostState


async def _metrics(here: Site) -> dict[str, float]:
    """Samples by name and labels."""
    page = Page()
    await ControllerMetrics(here.controller).add_to(page)
    text, _ = page.written("")
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_hosts_that_lag_refuse_or_left_are_counted(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            enforcer = ModelEnforcer()
            await here.agent("h1", enforcer)
            second = await here.agent("h2", ModelEnforcer())
            await here.controller.apply([("a.yaml", ACME)], "tester")
            found = await _metrics(here)
            assert found["hostward_hosts_behind"] == 0
            assert found["hostward_desired_revision"] == found["hostward_host_enforced_revision/h1"] == 1
            assert found["hostward_change_to_enforced_seconds_count"] == 2
            assert found["hostward_compile_seconds_count"] == 1
            assert found["hostward_hosts/admitted"] == found["hostward_channels_accepted_total"] == 2
            assert found["hostward_host_contact_timestamp_seconds/h1"] > 1e9

            enforcer.refuse = CapacityError("the table is full")
            await here.controller.apply([("a.yaml", ACME.replace(b"80", b"81"))], "tester")
            found = await _metrics(here)
            assert found["hostward_hosts_behind"] == 1
            assert found["hostward_refusals_total/capacity"] == 1
            assert found["hostward_change_to_enforced_seconds_count"] == 3

            second.cancel()
            while "h2" in here.controller.fleet.connected():
                await asyncio.wait_for(here.controller.fleet.next_progress(), 5)
            found = await _metrics(here)
            assert (found["hostward_hosts_behind"], found["hostward_host_connected/h2"]) == (2, 0)
            await here.controller.move_host("h2", HostState.EVICTED, "tester")
            found = await _metrics(here)
            # Cut off on purpose: nothing to be alarmed about.
            assert (found["hostward_hosts_behind"], found["hostward_hosts/evicted"]) == (1, 1)
            assert "hostward_host_connected/h2" not in found

    asyncio.run(run())


def test_the_time_that_a_host_was_away_is_no_latency(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", ModelEnforcer())
            await here.controller.apply([("a.yaml", ACME)], "tester")
            await here.agent("h2", ModelEnforcer())
            while here.controller.fleet.view("h2").enforced < 1:
                await asyncio.wait_for(here.controller.fleet.next_progress(), 5)
            assert (await _metrics(here))["hostward_change_to_enforced_seconds_count"] == 1

    asyncio.run(run())


class _Talking(ModelEnforcer):
    """Its endpoints speak with more peers than are told of, and it tells of one that it does not have."""

    def statuses(self) -> Mapping[str, EndpointStatus]:
        return {name: EndpointStatus(EndpointState.ENFORCED, "", self.revision, 9) for name in self.slice.endpoints}

    def talkers(self, limit: int) -> Mapping[str, Sequence[Talker]]:
        many = [Talker("10.0.0.9", 6, port, 1, 1, 1) for port in range(1, limit + 5)]
        return dict.fromkeys((*self.slice.endpoints, "acme/nobody"), many)


def test_talkers_reach_the_controller_bounded_and_for_known_endpoints_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostward.agent.daemon.TALKERS_PERIOD_S", 0.01)

    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", _Talking())
            await here.controller.attachments.add(_endpoint("web-1", "h1"), "tester")
            view = here.controller.fleet.view("h1")
            while not view.talkers:
                await asyncio.wait_for(here.controller.fleet.next_progress(), 5)
            assert {name: len(talkers) for name, talkers in view.talkers.items()} == {"acme/web-1": TALKERS_LIMIT}

    asyncio.run(run())


class _Silent(ModelEnforcer):
    """A rule rejected more than it had answers for."""

    def answers_suppressed(self) -> int:
        return 7


def test_answers_that_were_not_sent_reach_the_controller(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            await here.agent("h1", _Silent())
            while not here.controller.fleet.view("h1").answers_suppressed:
                await asyncio.wait_for(here.controller.fleet.next_progress(), 10)
            (row,) = hosts(here.controller)
            assert row.answers_suppressed == 7

    asyncio.run(run())
