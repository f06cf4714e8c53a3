"""What a channel is told of talkers: changes only, bounded for each endpoint."""

from __future__ import annotations

from hostward.agent.messages import TALKERS_LIMIT, Talkers, decode_from_agent, encode
from hostward.agent.talkers import TalkerReport
from hostward.datapath.readings import Talker


def _talker(port: int, count_bytes: int = 1) -> Talker:
    return Talker("10.0.0.2", 6, port, 1, count_bytes, 1)


def test_only_what_changed_is_told_and_an_end_is_told_too() -> None:
    report = TalkerReport()
    assert report.changes({}) is None
    assert report.changes({"acme/a": [_talker(80)], "acme/b": [_talker(81)]}) == Talkers(
        {"acme/a": (_talker(80),), "acme/b": (_talker(81),)}
    )
    assert report.changes({"acme/a": [_talker(80)], "acme/b": [_talker(81)]}) is None
    assert report.changes({"acme/a": [_talker(80)], "acme/b": [_talker(81, 2)]}) == Talkers(
        {"acme/b": (_talker(81, 2),)}
    )
    assert not report.empty
    assert report.changes({"acme/b": [_talker(81, 2)]}) == Talkers({"acme/a": ()})
    assert report.changes({"acme/b": []}) == Talkers({"acme/b": ()})
    assert report.empty


def test_of_an_endpoint_no_more_is_told_than_the_limit() -> None:
    message = TalkerReport().changes({"acme/a": [_talker(port) for port in range(1, 100)]})
    assert message is not None
    assert message.endpoints["acme/a"] == tuple(_talker(port) for port in range(1, TALKERS_LIMIT + 1))
    again = decode_from_agent(encode(message))
    assert isinstance(again, Talkers)
    assert list(again.endpoints["acme/a"]) == list(message.endpoints["acme/a"])
