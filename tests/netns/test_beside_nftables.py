"""Hostward beside nftables with conntrack: the same policy and the same packets over two wires, and what arrives.

Every packet that only one of the two lets pass is of a row of docs/reference/beside-nftables.md, or the test fails.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.netns.beside.conversations import conversations
from tests.netns.beside.differences import DIFFERENCES, Moment, Talked, classify, tcp_step
from tests.netns.beside.ground import Beside, Rule
from tests.netns.beside.notation import WHO, Line, Talk, arrived, read_line
from tests.netns.pair import Pair
from tests.netns.titled import read_titled

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]

HERE = Path(__file__).parent
EXAMPLES = HERE / "beside" / "differences.seq"
REFERENCE = HERE.parents[1] / "docs" / "reference" / "beside-nftables.md"
RULES = (Rule("a", "tcp", (80, 80)), Rule("a", "udp", (80, 80)), Rule("a", "echo"), Rule("b", "tcp", (443, 443)),
         Rule("b", "udp", (443, 443)), Rule("b", "echo"))  # fmt: skip
# For conversations over a port that `a` may not open, and `b` may answer from.
OPEN_TO_B = Rule("b", "udp", (2_000, 65_535))
# Every conversation has ports, and an echo's identifiers, of its own: conntrack forgets nothing between two.
_ports = itertools.count(2_000, 8)


@pytest.fixture
def beside(pair: Pair, pins: Path) -> Iterator[Beside]:
    made = Beside(pair, pins)
    try:
        made.build()
        yield made
    finally:
        made.remove()


def talk(beside: Beside, family: int, opener: str, port: int = 0) -> Talk:
    other = "b" if opener == "a" else "a"
    ends = beside.pair.address(opener, family), beside.pair.address(other, family)
    return Talk(family, ends, (next(_ports), port or (80 if opener == "a" else 443)))


def carry(beside: Beside, conversation: Talk, opener: str, line: Line) -> tuple[str, frozenset[str]]:
    """Who let a packet pass, and which reasons Hostward counted for it."""
    other = "b" if opener == "a" else "a"
    packets = conversation.packets(line)
    before = _reasons(beside)
    by_hostward, by_nftables = beside.carry(opener if line.from_opener else other, packets)
    whole = conversation.sent[-1]
    counted = frozenset(_reasons(beside) - before)
    return WHO[arrived(whole, by_hostward), arrived(whole, by_nftables)], counted


def _reasons(beside: Beside) -> Counter[str]:
    counted = beside.enforcer.counters().by_reason
    return Counter({reason: packets for (endpoint, reason), packets in counted.items() if endpoint == "acme/a"})


@pytest.mark.parametrize("opener", ["a", "b"])
@pytest.mark.parametrize("family", [4, 6])
def test_examples(family: int, opener: str, beside: Beside) -> None:
    """Of each row one, and no packet of it that only one lets pass is of another row."""
    beside.adopt([*RULES, OPEN_TO_B])
    for title, lines in read_titled(EXAMPLES, read_line):
        if f"IPv{10 - family} alone" in title or ("from a" in title and opener != "a"):
            continue
        conversation = talk(beside, family, opener, 85 if "port 85" in title else 0)
        talked, found = Talked(), []
        for line in lines:
            who, reasons = carry(beside, conversation, opener, line)
            found.append((line.text, who))
            if who == "both":
                talked.note(line, len(conversation.sent))
            elif who != "neither":
                assert classify(Moment(line, who, reasons, talked, tcp_step(line))) == title.partition(":")[0]
        assert found == [(line.text, line.who) for line in lines], title


def test_every_row_has_an_example_and_every_example_a_row() -> None:
    titles = [title.partition(":")[0] for title, _ in read_titled(EXAMPLES, read_line)]
    assert sorted(titles) == sorted(difference.name for difference in DIFFERENCES)


def test_the_reference_tells_of_every_row() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", REFERENCE.read_text(), re.MULTILINE)
    assert sorted(rows[1:]) == sorted(difference.name for difference in DIFFERENCES)


RULE = st.builds(
    Rule,
    st.sampled_from("ab"),
    st.sampled_from(("tcp", "udp", "echo")),
    st.sampled_from(((80, 80), (443, 443), (81, 90), (1, 65_535))),
)


# The same each time, so that nobody meets a difference that is not theirs; more, and others, with HOSTWARD_BESIDE=1000.
@settings(
    max_examples=int(os.environ.get("HOSTWARD_BESIDE", "60")),
    derandomize="HOSTWARD_BESIDE" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    rules=st.lists(RULE, max_size=5),
    spoken=st.lists(
        st.tuples(st.sampled_from((4, 6)), st.sampled_from("ab"), st.sampled_from((0, 0, 0, 80, 443, 85)), conversations),
        min_size=1, max_size=6,
    ),
)  # fmt: skip
def test_random_policies_and_packets(
    beside: Beside, rules: Sequence[Rule], spoken: Sequence[tuple[int, str, int, Sequence[str]]]
) -> None:
    allowed = [*RULES, *rules] if len(rules) < 3 else rules
    beside.adopt(list({rule.hostward: rule for rule in allowed}.values()))
    for family, opener, port, texts in spoken:
        conversation, talked = talk(beside, family, opener, port), Talked()
        told = []
        for line in map(read_line, texts):
            step = tcp_step(line)
            # conntrack forgets what was reset, sooner or later by how far it had come; Hostward after ten seconds. A new
            # beginning has to be alike.
            if talked.is_reset and step is not None and not talked.begins_anew(step):
                conversation.packets(line)  # later lines may quote it
                continue
            who, reasons = carry(beside, conversation, opener, line)
            told.append(f"{line.text} : {who} {' '.join(sorted(reasons))}")
            if who in ("hostward", "nftables"):
                moment = Moment(line, who, reasons, talked, step)
                assert classify(moment), f"IPv{family}, opened by {opener}\n" + "\n".join(told)
                break
            if who == "both":
                talked.note(line, len(conversation.sent))
