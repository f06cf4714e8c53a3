"""Where Hostward and nftables with conntrack let different packets pass: the rows of docs/reference/beside-nftables.md.

A conversation is compared up to its first difference: the two have different states from there on. A row's predicate
speaks of that one packet, by what both had let pass before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.netns import frames as f
from tests.netns.beside.notation import Line
from tests.netns.tcp.notation import Step, read_step


@dataclass
class Side:
    """What one side has shown, by what both let pass."""

    syns: list[int] = field(default_factory=list)
    end: int = 0
    fin: int | None = None
    acked: int | None = None
    edge: int = 0
    window: int = 0

    def note(self, step: Step) -> None:
        end = step.seq + step.payload + bool(step.flags & f.SYN) + bool(step.flags & f.FIN)
        if step.flags & f.SYN:
            self.syns.append(step.seq)
        if step.flags & f.RST:
            return
        self.end = max(self.end, end)
        self.window = max(self.window, step.window)
        if step.flags & f.FIN:
            self.fin = end
        if step.flags & f.ACK:
            self.acked = max(step.ack, self.acked or 0)
            self.edge = max(self.edge, step.ack + step.window)


@dataclass
class Talked:
    """The conversation so far."""

    sides: tuple[Side, Side] = field(default_factory=lambda: (Side(), Side()))
    steps: list[Step] = field(default_factory=list)
    passed: dict[int, Line] = field(default_factory=dict)

    def note(self, line: Line, number: int) -> None:
        """Both let a line pass; ``number`` is by which errors quote it."""
        self.passed[number] = line
        step = tcp_step(line)
        if step is not None:
            self.steps.append(step)
            self.sides[not step.from_opener].note(step)

    @property
    def is_reset(self) -> bool:
        """A RST has passed, and no SYN since."""
        ends = [step.flags for step in self.steps if step.flags & (f.RST | f.SYN)]
        return bool(ends) and bool(ends[-1] & f.RST)

    def begins_anew(self, step: Step) -> bool:
        """It is a SYN, and none that was here."""
        return step.flags == f.SYN and not any(step.seq in side.syns for side in self.sides)

    @property
    def answered(self) -> bool:
        """Both SYNs have passed, and one of them with an ACK of the other."""
        return any(step.flags == f.SYN | f.ACK for step in self.steps)

    @property
    def confirmed(self) -> bool:
        """The handshake is over: the SYN ACK was acknowledged."""
        answers = [number for number, step in enumerate(self.steps) if step.flags == f.SYN | f.ACK]
        return bool(answers) and any(step.flags & (f.ACK | f.SYN) == f.ACK for step in self.steps[answers[0] :])


@dataclass(frozen=True)
class Moment:
    """One packet that only one of the two let pass."""

    line: Line
    who: str
    reasons: frozenset[str]
    talked: Talked
    step: Step | None

    def tcp(self, who: str, reason: str = "") -> tuple[Step, Side, Side] | None:
        """Its segment, its side and the other, if it is one that only ``who`` let pass."""
        if self.step is None or self.who != who or (reason and reason not in self.reasons):
            return None
        mine, other = self.talked.sides if self.step.from_opener else self.talked.sides[::-1]
        return self.step, mine, other


def tcp_step(line: Line) -> Step | None:
    """The segment that a line writes, if it writes one."""
    if line.what.split()[1] in ("udp", "echo", "reply", "error"):
        return None
    return read_step(f"{line.what} : none")


def _late(moment: Moment) -> bool:
    return moment.who == "nftables" and moment.line.order == "late" and "fragment-orphan" in moment.reasons


def _redirect(moment: Moment) -> bool:
    words = moment.line.what.split()
    return moment.who == "nftables" and words[1] == "error" and words[2] in ("5/0", "4/0")


def _never_sent(moment: Moment) -> bool:
    words = moment.line.what.split()
    if moment.who != "nftables" or words[1] != "error" or "icmp-unrelated" not in moment.reasons:
        return False
    quoted = moment.talked.passed.get(int(words[-1]))
    # A RST is not held to be sent: it may have any number of the window, and nobody would tell of its loss.
    step = tcp_step(quoted) if quoted is not None else None
    if quoted is None or (step is not None and step.flags & f.RST):
        return True
    # Nor what somebody sent in the middle of a connection that was not answered.
    return step is not None and not step.flags & f.SYN and not moment.talked.answered


def _narrow(moment: Moment) -> bool:
    return moment.who == "nftables" and " mtu 60 " in moment.line.what and "icmp-mtu" in moment.reasons


def _other_sides_syn(moment: Moment) -> bool:
    found = moment.tcp("hostward")
    return found is not None and found[0].flags == f.SYN and not found[0].from_opener and bool(found[2].syns)


def _simultaneous(moment: Moment) -> bool:
    """Both have sent a SYN of their own: what lies in the windows that the two show."""
    found = moment.tcp("hostward")
    beginnings = {step.from_opener for step in moment.talked.steps if step.flags == f.SYN}
    return found is not None and not found[0].flags & f.RST and len(beginnings) == 2


def _handshake_again(moment: Moment) -> bool:
    """The network has repeated a SYN and its answer after the handshake; conntrack takes them for a new connection."""
    found = moment.tcp("hostward")
    if found is None or not moment.talked.confirmed or found[0].flags & (f.SYN | f.RST):
        return False
    flags = [step.flags for step in moment.talked.steps]
    return flags.count(f.SYN) > 1 and flags.count(f.SYN | f.ACK) > 1


def _older_answer(moment: Moment) -> bool:
    found = moment.tcp("hostward")
    if found is None or found[0].flags != f.SYN | f.ACK:
        return False
    return moment.talked.answered or found[0].ack not in (0, 1)


def _beyond(moment: Moment) -> bool:
    """It ends behind what the other side lets be sent, and the one byte that may probe a closed window."""
    found = moment.tcp("nftables", "tcp-window")
    if found is None or found[0].flags & (f.SYN | f.RST):
        return False
    step, _, other = found
    end = step.seq + step.payload + bool(step.flags & f.FIN)
    # Before its first ACK the other side has shown a window alone.
    return end > (other.edge or other.window + 1) + 1


def _behind_fin(moment: Moment) -> bool:
    found = moment.tcp("nftables", "tcp-window")
    if found is None:
        return False
    step, mine, _ = found
    return mine.fin is not None and step.seq + step.payload + bool(step.flags & f.FIN) > mine.fin


def _long_ago(moment: Moment) -> bool:
    """Data of more than two windows ago, or an acknowledgement of more than one."""
    found = moment.tcp("nftables", "tcp-window")
    if found is None or found[0].flags & (f.SYN | f.RST):
        return False
    step, mine, other = found
    end = step.seq + step.payload + bool(step.flags & f.FIN)
    old_data = end < (other.acked or 0) - 2 * other.window - 1
    old_ack = step.ack < (mine.acked or 0) - mine.window - 1
    return (old_data or old_ack) and step.ack <= other.end


def _outside_reset(moment: Moment) -> bool:
    """conntrack compares a RST with what was acknowledged last, and only where an acknowledgement has moved it."""
    found = moment.tcp("nftables", "tcp-window")
    if found is None or not found[0].flags & f.RST:
        return False
    step, _, other = found
    expected = 1 if other.acked is None else other.acked
    return step.seq < expected or step.seq > (other.edge or other.window + 1) or not moment.talked.answered


@dataclass(frozen=True)
class Difference:
    """A row: its name, and whether a packet is of it."""

    name: str
    holds: Callable[[Moment], bool]


DIFFERENCES: Sequence[Difference] = (
    Difference("fragments that overtake their first", _late),
    Difference("redirects and source quench", _redirect),
    Difference("a path narrower than any may be", _narrow),
    Difference("errors about what never passed", _never_sent),
    Difference("a SYN of the other side", _other_sides_syn),
    Difference("a simultaneous opening", _simultaneous),
    Difference("a handshake that comes again", _handshake_again),
    Difference("a SYN ACK of an older connection", _older_answer),
    Difference("data behind a FIN", _behind_fin),
    Difference("data behind the window", _beyond),
    Difference("segments of long ago", _long_ago),
    Difference("a RST outside the window", _outside_reset),
)


def classify(moment: Moment) -> str:
    """The name of the row; empty if there is none."""
    return next((difference.name for difference in DIFFERENCES if difference.holds(moment)), "")
