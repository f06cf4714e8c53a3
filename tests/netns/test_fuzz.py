"""Fuzzing of the packet path: what it found once, a short run that is always the same, and that its judge sees mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz.__main__ import Fuzzer
from fuzz.cases import read_cases, write_case
from fuzz.ground import Ground, Seen, Step
from fuzz.judge import judge
from fuzz.sequences import step
from fuzz.trial import attempt, minimise

from tests.netns import frames as f
from tests.netns.probe import outward, packet

pytestmark = pytest.mark.netns

FILES = sorted(Path(__file__).parents[1].joinpath("data", "fuzz").glob("*.txt"))
SEQUENCES = 600


@pytest.fixture
def ground(pins: Path) -> Ground:
    return Ground(pins)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_went_wrong_once(file: Path, ground: Ground) -> None:
    cases = read_cases(file)
    assert cases
    for title, lines in cases:
        steps = [line for line, _ in lines]
        trial = attempt(ground, steps)
        assert (title, trial.complaints, list(trial.verdicts)) == (title, (), [verdict for _, verdict in lines])


def test_random_sequences(ground: Ground) -> None:
    fuzzer = Fuzzer(ground, seed=9293)
    for _ in range(SEQUENCES):
        steps, trial = fuzzer.try_one()
        assert not trial.complaints, write_case("random", trial.complaints, steps, trial.verdicts)
    # Not all of them are denied at the first look.
    assert len(fuzzer.signals) > 2 * SEQUENCES


UDP_OUT = step("egress", 4, f.UDP, f.udp(4_000, 80))
UDP_BACK = step("ingress", 4, f.UDP, f.udp(80, 4_000))
SYN = step("egress", 4, f.TCP, f.tcp(4_000, 80, f.SYN, seq=0))
SYN_ACK = step("ingress", 4, f.TCP, f.tcp(80, 4_000, f.SYN | f.ACK, seq=0, ack=1))
SPOOFED = Step("egress", outward(packet(4, "egress", f.UDP, f.udp(4_000, 80)), source=f.OTHER_MAC))
AHEAD = step("ingress", 4, f.TCP, f.tcp(80, 4_000, f.ACK, seq=500_000, ack=1))
INSIDE = step("ingress", 4, f.TCP, f.tcp(80, 4_000, f.ACK, seq=1, ack=1))
RESET = step("ingress", 4, f.TCP, f.tcp(80, 4_000, f.RST, seq=500_000))
ERROR = step("ingress", 4, f.ICMP, f.icmp(3, payload=packet(4, "egress", f.UDP, f.udp(4_001, 80))))


def passed(seen: Seen) -> Seen:
    return replace(seen, passed=True, reasons=())


def denied(reason: str) -> Callable[[Seen], Seen]:
    return lambda seen: replace(seen, passed=False, reasons=(reason,))


@pytest.mark.parametrize(
    ("steps", "lie", "complaint"),
    [
        ([SPOOFED], passed, "must not: sent under another MAC"),
        ([UDP_BACK], passed, "passed against policy, and answers nothing"),
        ([step("egress", 4, f.TCP, f.tcp(4_000, 80, f.ACK))], passed, "passed, and answers nothing"),
        ([step("ingress", 4, f.UDP, f.udp(4_000, 80))], passed, "passed against policy"),
        ([UDP_OUT], denied("policy"), "policy lets it open"),
        ([UDP_OUT], denied("l4-header"), "nothing is wrong with it"),
        ([UDP_OUT], lambda seen: replace(seen, passed=False), "counted as nothing"),
        ([UDP_OUT], lambda seen: replace(seen, reasons=("policy",)), "passed, and counted"),
        ([UDP_OUT], lambda seen: replace(seen, flow_count=2), "the table holds 1"),
        ([UDP_OUT, ERROR], passed, "an error about what was never sent"),
        ([SYN, SYN_ACK, AHEAD], passed, "data outside every window"),
        ([SYN, SYN_ACK, RESET], passed, "a RST outside every window"),
    ],
)  # fmt: skip
def test_the_judge_sees_a_wrong_verdict(
    ground: Ground, steps: list[Step], lie: Callable[[Seen], Seen], complaint: str
) -> None:
    seen = ground.play(steps)
    assert list(judge(steps, seen)) == []
    assert complaint in "\n".join(judge(steps, [*seen[:-1], lie(seen[-1])]))


def test_a_case_is_made_small_and_read_again(ground: Ground, tmp_path: Path) -> None:
    steps = [SYN, UDP_OUT, SYN_ACK, UDP_BACK, INSIDE]

    def is_wrong(tried: object) -> bool:
        return any(outcome.passed and len(step.frame) == len(UDP_BACK.frame) for step, outcome in zip(
            tried, ground.play(tried), strict=True  # type: ignore[arg-type, call-overload]
        ) if step.direction == "ingress")  # fmt: skip

    small = minimise(steps, is_wrong)
    assert small == [UDP_OUT, UDP_BACK]
    file = tmp_path / "case.txt"
    file.write_text(write_case("an answer", ["why"], small, ["pass", "pass"]))
    assert read_cases(file) == [("an answer", ((UDP_OUT, "pass"), (UDP_BACK, "pass")))]
