"""Random conversations as text: two ends that number what they send, and whoever else sends beside their windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

_WINDOWS = (400, 1_000, 65_535)
_SIZES = (1, 40, 400, 900)
# How far beside its place a number is.
_BESIDE = (
    -1,
    1,
    2,
    -399,
    -400,
    -402,
    399,
    400,
    402,
    -1_000,
    1_001,
    65_536,
    -65_536,
    -70_000,
    2**20,
    -(2**20),
    2**31 - 7,
)
# Of a conversation that ends with another beginning: the opener's ports are used again, or the other side opens.
_REOPENED = (
    ("> S 500000", "< SA 1000000 ack 500001", "> A 500001 ack 1000001", "> PA 500001+10 ack 1000001",
     "< PA 1000001+20 ack 500011"),
    ("> S 500000", "< RA 2000000 ack 500001", "> S 500000", "< SA 1000000 ack 500001", "> A 500001 ack 1000001"),
    ("< S 500000", "> SA 900000 ack 500001"),
)  # fmt: skip

_moves = st.one_of(
    st.tuples(st.sampled_from(("open", "answer", "confirm", "ack", "fin", "again", "error")), st.integers(0, 1)),
    st.tuples(st.just("data"), st.integers(0, 1), st.sampled_from(_SIZES)),
    st.tuples(st.just("cut"), st.integers(0, 1), st.sampled_from((" in 2", " in 3", " in 2 late", " in 3 over"))),
    st.tuples(st.sampled_from(("beside", "acks", "reset")), st.integers(0, 1), st.sampled_from((0, *_BESIDE))),
)
_DATAGRAMS = (
    "> udp 0", "> udp 40", "< udp 40", "< udp 0", "> udp 1400 in 2", "< udp 1400 in 3", "> udp 1400 in 2 late",
    "> udp 1400 in 3 over", "< error 3/3 about 1", "> error 3/3 about 2", "< error 11/0 about 1",
    "< error 3/4 mtu 1400 about 1", "< error 3/4 mtu 60 about 1", "< error 5/0 about 1", "< error 4/0 about 1",
)  # fmt: skip
_ECHOES = (
    "> echo 1", "> echo 2", "< reply 1", "< reply 2", "< reply 3", "< echo 1", "> reply 1", "< error 3/1 about 1",
    "< error 11/0 about 1", "> error 3/1 about 1",
)  # fmt: skip


@dataclass
class _Ends:
    """What both ends of a TCP connection have sent, counted from their first SYNs."""

    windows: tuple[int, int]
    sent: list[int] = field(default_factory=lambda: [0, 0])
    lines: list[str] = field(default_factory=list)

    def say(self, side: int, flags: str, seq: int, size: int = 0, *, ack: int | None = None, cut: str = "") -> None:
        acked = self.sent[1 - side] if ack is None else ack
        text = f"{'><'[side]} {flags} {seq}{f'+{size}' if size else ''}"
        text += f" ack {acked}" if "A" in flags else ""
        self.lines.append(f"{text} win {self.windows[side]}{cut}")

    def move(self, name: str, side: int, value: object = None) -> None:
        here = self.sent[side]
        match name, value:
            case "open", _:
                self.say(side, "S", 0)
                self.sent[side] = max(here, 1)
            case "answer", _:
                self.say(1, "SA", 0, ack=1)
                self.sent[1] = max(self.sent[1], 1)
            case (("confirm" | "ack"), _):
                self.say(side, "A", here)
            case "fin", _:
                self.say(side, "FA", here)
                self.sent[side] += 1
            case "data", int():
                self.say(side, "PA", here, value)
                self.sent[side] += value
            case "cut", str():
                self.say(side, "PA", here, 600, cut=value)
                self.sent[side] += 600
            case "again", _:
                if self.lines:
                    self.lines.append(self.lines[-1 - (here % len(self.lines))])
            case "beside", int():
                self.say(side, "PA", here + value, 10)
            case "acks", int():
                self.say(side, "A", here, ack=self.sent[1 - side] + value)
            case "reset", int():
                self.say(side, "R", here + value)
            case "error", _:
                if self.lines:
                    self.lines.append(f"{'><'[side]} error 3/1 about {1 + here % len(self.lines)}")


@st.composite
def tcp_conversations(draw: st.DrawFn) -> list[str]:
    """Mostly a handshake, and then anything."""
    ends = _Ends((draw(st.sampled_from(_WINDOWS)), draw(st.sampled_from(_WINDOWS))))
    for name, side in (("open", 0), ("answer", 1), ("confirm", 0))[: draw(st.sampled_from((0, 1, 2, 3, 3, 3, 3)))]:
        ends.move(name, side)
    for move in draw(st.lists(_moves, min_size=1, max_size=14)):
        ends.move(*move)
    if draw(st.integers(0, 3)) == 0:
        ends.lines += draw(st.sampled_from(_REOPENED))
    return ends.lines


conversations = st.one_of(
    tcp_conversations(),
    tcp_conversations(),
    st.tuples(st.sampled_from("<>"), st.lists(st.sampled_from(_DATAGRAMS), min_size=1, max_size=8)).map(
        lambda drawn: ["> udp 40", f"{drawn[0]} udp 40", *drawn[1]]
    ),
    st.lists(st.sampled_from(_ECHOES), min_size=1, max_size=8).map(lambda lines: ["> echo 1", *lines]),
)
