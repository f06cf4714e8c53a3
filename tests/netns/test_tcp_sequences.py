"""The tables of tests/netns/tcp through the loaded programs: both families, either end opening, numbers that wrap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.netns.frames import TCP
from tests.netns.probe import ENDPOINT, Outcome, Probe
from tests.netns.tcp.notation import Conversation, read_conversations

pytestmark = pytest.mark.netns

FILES = sorted(Path(__file__).parent.joinpath("tcp").glob("*.seq"))
# The first sequence numbers of the opener and of the other side.
BASES = ((1_000, 3_000_000_000), (0xFFFF_FFF0, 0x7FFF_FFF0))


@pytest.mark.parametrize("first", BASES, ids=("far from zero", "wrapping"))
@pytest.mark.parametrize("opener", ["egress", "ingress"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_conversations(file: Path, family: int, opener: str, first: tuple[int, int], pins: Path) -> None:
    probe = Probe(pins, quota=256)
    conversations = read_conversations(file)
    assert conversations
    for number, conversation in enumerate(conversations):
        ports = (4_000 + number, 80 if opener == "egress" else 443)
        found = play(probe, conversation, family, opener, ports, first)
        expected = [(step.text, step.reason, step.state) for step in conversation.steps]
        assert found == expected, conversation.title


def play(
    probe: Probe,
    conversation: Conversation,
    family: int,
    opener: str,
    ports: tuple[int, int],
    first: tuple[int, int],
) -> Sequence[tuple[str, str, str]]:
    """What became of each step: its text, the reason of its denial, and the flow's state after it."""
    found = []
    for step in conversation.steps:
        outward = step.from_opener == (opener == "egress")
        send = probe.out if outward else probe.back
        outcome: Outcome = send(family, TCP, step.segment(ports, first))
        assert outcome.passed == (not outcome.reason), step.text
        found.append((step.text, outcome.reason, state_of(probe, family, ports)))
    return found


def state_of(probe: Probe, family: int, ports: tuple[int, int]) -> str:
    """The state of the only flow between these ports."""
    for flow in probe.enforcer.flows(ENDPOINT):
        same_family = (":" in flow.local[0]) == (family == 6)
        if same_family and {flow.local[1], flow.remote[1]} == set(ports):
            return flow.state
    return "none"
