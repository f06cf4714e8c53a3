"""What may never happen to a sequence of frames, said naively: over everything that passed so far, and not as states.

Each rule is a bound that a right firewall keeps, not a prediction: a reply needs an opener before it, a segment some window
that was shown, a fragment its first. Where the standards leave room the bound is the wider one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.netns import frames as f

from fuzz.errors_quoted import about
from fuzz.ground import QUOTA, Seen, Step, policy
from fuzz.reading import Packet, Refused, read

# Reasons that call the frame itself wrong, or its sender a liar: only where `read` refuses it as well.
_ABOUT_THE_FRAME = frozenset(
    (
        "truncated", "ethertype", "vlan", "arp-header", "ip-header", "ip-option", "extension-header", "fragment",
        "l4-header", "tcp-flags", "mac-spoof", "ip-spoof", "arp-spoof", "nd-spoof", "dhcp-spoof", "ra-spoof",
        "not-addressed",
    )
)  # fmt: skip
# Reasons that no frame may meet while the datapath is whole.
_NEVER = frozenset(("internal", "no-revision", "table-full"))
_PEERS = ("10.0.0.2", "fd00::2")
# A sender that heard no acknowledgement for a while may be so many windows behind.
_WINDOWS_BEHIND = 2


def judge(steps: Sequence[Step], seen: Sequence[Seen]) -> Iterator[str]:
    """Every complaint: the number of the step, and what is wrong with its verdict."""
    history = _History()
    flows_before = 0
    for number, (step, outcome) in enumerate(zip(steps, seen, strict=True), 1):
        try:
            packet, refused = read(step.direction, step.frame), ""
        except Refused as why:
            packet, refused = None, str(why)
        for complaint in (
            *_counts(packet, outcome, flows_before),
            *_verdict(packet, refused, outcome, history),
        ):
            yield f"step {number}: {complaint}"
        if packet is not None and outcome.passed:
            history.add(packet, new=_is_new(packet, outcome))
        flows_before = outcome.flow_count


def _is_new(packet: Packet, outcome: Seen) -> bool:
    """Whether the packet is the only one of its flow: where ports are used again, windows and tags are new ones."""
    name = _flow_name(packet)
    return any((flow.protocol, flow.local, flow.remote) == name and sum(flow.packets) == 1 for flow in outcome.flows)


def _flow_name(packet: Packet) -> tuple[int, tuple[str, int], tuple[str, int]]:
    ends = (str(packet.source), packet.ports[0]), (str(packet.destination), packet.ports[1])
    local, remote = ends if packet.direction == "egress" else ends[::-1]
    return packet.protocol, local, remote


def _counts(packet: Packet | None, outcome: Seen, flows_before: int) -> Iterator[str]:
    trial = (
        packet is not None and packet.opens and policy(packet.direction, packet.protocol, packet.port) == "would-deny"
    )
    if not outcome.passed and len(outcome.reasons) != 1:
        yield f"denied, and counted as {outcome.reasons or 'nothing'}"
    if outcome.passed and outcome.reasons and not (trial and outcome.reasons == ("policy",)):
        yield f"passed, and counted as {outcome.reasons}"
    if _NEVER & set(outcome.reasons):
        yield f"denied as {outcome.verdict}"
    if outcome.flow_count != len(outcome.flows):
        yield f"the endpoint counts {outcome.flow_count} flows and the table holds {len(outcome.flows)}"
    if outcome.flow_count > QUOTA:
        yield f"{outcome.flow_count} flows, of {QUOTA}"
    if outcome.flow_count > flows_before and not (outcome.passed and packet is not None and packet.opens):
        yield "a flow from what opens none"
    names = Counter((flow.protocol, flow.local, flow.remote) for flow in outcome.flows)
    if any(count > 1 for count in names.values()):
        yield "two flows of one name"


def _verdict(packet: Packet | None, refused: str, outcome: Seen, history: _History) -> Iterator[str]:
    if packet is None:
        if outcome.passed:
            yield f"passed, and must not: {refused}"
        return
    if not outcome.passed:
        yield from _denial(packet, outcome, history)
    elif packet.kind == "checked":
        return
    elif (
        packet.kind != "error"
        and str(packet.destination if packet.direction == "egress" else packet.source) not in _PEERS
    ):
        yield "passed between the endpoint and who is no peer"
    elif packet.kind == "fragment":
        yield from history.fragment(packet)
    elif packet.kind == "error":
        yield from about(packet, history.passed)
    else:
        yield from history.member(packet)


def _denial(packet: Packet, outcome: Seen, history: _History) -> Iterator[str]:
    reason = outcome.verdict
    if reason in _ABOUT_THE_FRAME:
        yield f"denied as {reason}, and nothing is wrong with it"
    elif packet.kind == "checked":
        yield f"denied as {reason}, and nothing is wrong with what it asks or tells"
    elif reason == "flow-quota":
        if outcome.flow_count < QUOTA:
            yield f"flow-quota at {outcome.flow_count} flows of {QUOTA}"
    elif packet.opens and not packet.fragment and not history.of(packet):
        peer = packet.destination if packet.direction == "egress" else packet.source
        allowed = policy(packet.direction, packet.protocol, packet.port) != "deny"
        if allowed and str(peer) in _PEERS and reason != "rate-cap":
            yield f"denied as {reason}, and policy lets it open"


class _History:
    """What passed, in order."""

    def __init__(self) -> None:
        self.passed: list[Packet] = []
        self._pieces: dict[tuple[object, ...], list[tuple[int, int]]] = {}

    def add(self, packet: Packet, *, new: bool) -> None:
        """A packet passed; a ``new`` flow has nothing to do with what passed under its name before."""
        if new:
            ends = packet.ends
            self.passed = [other for other in self.passed if other.kind != packet.kind or other.ends != ends]
        self.passed.append(packet)
        if packet.fragment:
            _, first, behind, _ = packet.fragment
            if not first:
                self._pieces[_datagram(packet)] = []
            self._pieces.setdefault(_datagram(packet), []).append((first, behind))
            if first:
                self._lengthen(packet)

    def _lengthen(self, piece: Packet) -> None:
        """A segment reaches as far as its fragments do."""
        assert piece.fragment
        for other in self.passed:
            if other.kind == "tcp" and other.fragment and _datagram(other) == _datagram(piece):
                reach = other.seq_end + piece.fragment[2] - other.fragment[2]
                other.seq_end = max(other.seq_end, reach)

    def of(self, packet: Packet) -> list[Packet]:
        """What passed of the packet's conversation."""
        return [other for other in self.passed if other.kind == packet.kind and other.ends == packet.ends]

    def fragment(self, packet: Packet) -> Iterator[str]:
        """Complaints about a fragment that passed and is not its datagram's first."""
        assert packet.fragment
        _, first, behind, _ = packet.fragment
        pieces = self._pieces.get(_datagram(packet))
        if pieces is None:
            yield "a fragment passed whose first did not"
        elif any(first < end and start < behind for start, end in pieces):
            yield "a fragment passed over bytes of one that had"

    def member(self, packet: Packet) -> Iterator[str]:
        """Complaints about a packet of a conversation, or of none, that passed."""
        earlier = self.of(packet)
        may_open = policy(packet.direction, packet.protocol, packet.port) != "deny"
        if packet.kind == "other":
            if not may_open:
                yield "passed against policy"
            return
        if not any(other.opens for other in earlier):
            if not (packet.opens and may_open):
                yield "passed against policy, and answers nothing" if packet.opens else "passed, and answers nothing"
            return
        if packet.kind == "esp" and not may_open:
            yield "ESP of the direction that policy does not open"
        if packet.kind == "tcp":
            yield from _segment(packet, earlier)
        if packet.kind == "sctp":
            yield from _chunks(packet, earlier)


def _datagram(packet: Packet) -> tuple[object, ...]:
    assert packet.fragment
    protocol = packet.protocol if packet.family == 4 else 0
    return packet.direction, packet.source, packet.destination, protocol, packet.fragment[0]


def signed(number: int) -> int:
    """A difference of sequence numbers (RFC 9293, section 3.4)."""
    return (number + 2**31) % 2**32 - 2**31


def _edges(passed: Sequence[Packet], first: int | None) -> Iterator[tuple[int, int]]:
    """What the packets of one direction let the other send: from what is acknowledged on, and behind what."""
    shift = max([0, *(other.scale for other in passed)])
    for other in passed:
        reach = other.window if other.flags & f.SYN else other.window << shift
        if other.flags & f.ACK:
            yield other.ack, other.ack + reach
        if other.flags & f.SYN and first is not None:
            yield first, first + 1 + reach


def _segment(packet: Packet, earlier: Sequence[Packet]) -> Iterator[str]:
    """TCP: neither side may send, acknowledge or reset what no window that was shown has a place for."""
    same = [other for other in earlier if other.direction == packet.direction]
    back = [other for other in earlier if other.direction != packet.direction]
    if packet.flags & f.SYN:
        return
    if not any(_opens_or_answers(earlier, at) for at, other in enumerate(earlier) if other in same):
        # Whoever answers a SYN with something else remembers an older connection, and is reset (section 3.5.1).
        if packet.flags & (f.FIN | f.RST) and not (packet.flags & f.RST and _acknowledges_syn(packet, back)):
            yield "a FIN or RST of a side that never opened"
        return
    if not any(other.flags & (f.SYN | f.ACK) for other in back):
        if not packet.flags & f.RST:
            yield "data of an opener that nobody answered"
        return
    begun = [other for other in same if other.flags & f.SYN]
    edges = [edge for syn in begun for edge in _edges(back, syn.seq)]
    # What came with a SYN was taken or not, whatever the window, and may come again.
    edges += [(syn.seq, syn.seq_end) for syn in begun]
    # A window of a SYN may be remembered in units of its scale.
    unit = 1 << max(0, *(other.scale for other in earlier))
    widest = max([unit, *(signed(edge - acked) for acked, edge in edges), *(other.window * unit for other in back)])
    # With what may be ahead it stays within half of the numbers.
    widest = min(widest, 2**29)
    if packet.flags & f.RST:
        # One that answers what was on its way when the connection was reset is nobody's end.
        late = _WINDOWS_BEHIND * widest if any(other.flags & f.RST for other in earlier) else 0
        exact = any(packet.seq in (other.seq_end % 2**32, other.seq) for other in same) or _acknowledges_syn(
            packet, back
        )
        exact = exact or any(other.flags & f.ACK and packet.seq == other.ack for other in back)
        window = any(signed(packet.seq - acked) >= -late and signed(packet.seq - edge) <= 0 for acked, edge in edges)
        if not exact and not window:
            yield "a RST outside every window"
        return
    lag = _WINDOWS_BEHIND * widest + 2
    if not any(signed(packet.seq_end - acked) >= -lag and signed(packet.seq_end - edge) <= 1 for acked, edge in edges):
        yield "data outside every window"
    if not any(signed(other.seq_end - packet.ack) >= 0 for other in back):
        yield "an acknowledgement of what nobody sent"


def _opens_or_answers(earlier: Sequence[Packet], at: int) -> bool:
    packet = earlier[at]
    # Only the last SYN of an opener counts.
    before = [other for other in earlier[:at] if other.opens and other.direction != packet.direction][-1:]
    return packet.opens or (bool(packet.flags & f.SYN) and _acknowledges_syn(packet, before))


def _acknowledges_syn(packet: Packet, back: Sequence[Packet]) -> bool:
    """Whether a packet acknowledges a SYN, or data that came with it."""
    return bool(packet.flags & f.ACK) and any(
        other.flags & f.SYN and 0 < signed(packet.ack - other.seq) <= signed(other.seq_end - other.seq)
        for other in back
    )


def _chunks(packet: Packet, earlier: Sequence[Packet]) -> Iterator[str]:
    """SCTP: a packet carries a tag that its receiver chose, or with the T bit one that it was sent."""
    if packet.opens:
        return
    chose = {other.chosen for other in earlier if other.chosen and other.direction != packet.direction}
    reflected = any(kind in (6, 14) and flags & 1 for kind, flags in packet.chunks)
    if reflected:
        chose = {other.chosen for other in earlier if other.chosen and other.direction == packet.direction}
    if packet.tag not in chose:
        yield "SCTP under a tag that its receiver never chose"
