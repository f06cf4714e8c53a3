"""Sums that never fall: the endpoints without series of their own, as they come, count and go."""

from __future__ import annotations

from collections.abc import Mapping

from hostward.agent.measures import Rest
from hostward.datapath.readings import EndpointReading, Readings


def _reading(counts: Mapping[str, tuple[int, int]]) -> Readings:
    """Endpoints by name: their place, and the packets denied them."""
    endpoints = {
        name: EndpointReading("acme", place, 0, 1, {"policy": denied}, denied, 0)
        for name, (place, denied) in counts.items()
    }
    return Readings(endpoints, {}, 0, 0, 0, 0, 0, {}, {})


def test_what_was_counted_before_the_agent_started_is_no_increase() -> None:
    rest = Rest(named=1)
    rest.follow(_reading({"named": (1, 500), "other": (2, 900)}))
    assert rest.denied == 0
    rest.follow(_reading({"named": (1, 600), "other": (2, 907)}))
    assert (rest.denied, rest.events_lost) == (7, 7)


def test_an_endpoint_that_goes_takes_nothing_back_and_one_that_comes_adds_all_of_its_own() -> None:
    rest = Rest(named=0)
    rest.follow(_reading({}))
    rest.follow(_reading({"a": (1, 10)}))
    rest.follow(_reading({}))
    assert rest.denied == 10
    rest.follow(_reading({"b": (1, 3)}))
    assert rest.denied == 13


def test_an_endpoint_attached_anew_between_two_readings_begins_at_zero() -> None:
    rest = Rest(named=0)
    rest.follow(_reading({"a": (1, 100)}))
    rest.follow(_reading({"a": (1, 4)}))
    assert rest.denied == 4
