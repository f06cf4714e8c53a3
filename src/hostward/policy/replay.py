"""Observed flows put to a compiled revision: what it says of each, for the endpoints as they are now.

Verdicts come from the rows that hosts get. A flow whose endpoint is gone, or whose outside address an endpoint has by now,
cannot be asked about: its answer is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hostward.model.observed import ObservedFlow, Party
from hostward.model.slice import Row
from hostward.policy.compiler import Compiled
from hostward.policy.rule_index import Direction
from hostward.policy.subjects import Subject
from hostward.policy.verdicts import ALLOW, DENY


@dataclass(frozen=True, slots=True)
class Replayed:
    """One revision's verdict on a flow, and the rules that make it."""

    verdict: str
    rules: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether packets of the flow arrive."""
        return self.verdict != DENY

    @property
    def allowed(self) -> bool:
        """Whether they also arrive once nothing only audits."""
        return self.verdict == ALLOW


UNKNOWN_PEER = Replayed(DENY, ("hostward/unknown-peer",))


@dataclass(frozen=True, slots=True)
class Ends:
    """Who a flow's parties are in a revision; None for an address in a pool that no endpoint has."""

    source: Subject | None
    destination: Subject | None


def replay(compiled: Compiled, flows: Sequence[ObservedFlow]) -> list[Replayed | None]:
    """The revision's answer to each flow, in their order."""
    ends = [ends_of(compiled, flow) for flow in flows]
    rows = _rows(compiled, ends)
    known: dict[tuple[int, int, int, int], Replayed] = {}
    answers: list[Replayed | None] = []
    for flow, pair in zip(flows, ends, strict=True):
        if pair is None:
            answers.append(None)
            continue
        if not _reachable(pair) or pair.source is None or pair.destination is None:
            answers.append(UNKNOWN_PEER)
            continue
        key = (pair.source.index, pair.destination.index, flow.protocol, flow.port)
        if key not in known:
            known[key] = _answer(compiled, pair.source, pair.destination, rows[key[:2]], flow)
        answers.append(known[key])
    return answers


def ends_of(compiled: Compiled, flow: ObservedFlow) -> Ends | None:
    """The subjects of a flow's parties; None if one of them is not there any more."""
    found: list[Subject | None] = []
    for party in (flow.source, flow.destination):
        if party.endpoint:
            subject = _attached(compiled, party)
            if subject is None:
                return None
        elif (flow.network, party.address) in compiled.of_address:
            return None
        else:
            subject = compiled.subject_of_address(party.address, flow.network)
        found.append(subject)
    return Ends(*found)


def _attached(compiled: Compiled, party: Party) -> Subject | None:
    """An endpoint's subject at the address that was seen, or at another of the same family if it was readdressed."""
    endpoint = compiled.endpoints.get(party.endpoint)
    if endpoint is None:
        return None
    own = [address for address in endpoint.addresses if (":" in address) == (":" in party.address)]
    address = party.address if party.address in own else next(iter(own), None)
    held = None if address is None else compiled.of_address.get((endpoint.network, address))
    return None if held is None else held[1]


def _reachable(pair: Ends) -> bool:
    networks = {end.network for end in (pair.source, pair.destination) if end is not None and end.network}
    return len(networks) == 1


def _rows(compiled: Compiled, ends: Iterable[Ends | None]) -> dict[tuple[int, int], Row | None]:
    """The row of every pair, asked by one end for all its peers: rules are walked once for each local subject."""
    asked: dict[tuple[int, Direction], int] = {}
    for pair in ends:
        if pair is None or pair.source is None or pair.destination is None or not _reachable(pair):
            continue
        local, peer = pair.source, pair.destination
        direction: Direction = "egress"
        if not local.network:
            local, peer, direction = peer, local, "ingress"
        key = (local.index, direction)
        asked[key] = asked.get(key, 0) | 1 << peer.index
    rows: dict[tuple[int, int], Row | None] = {}
    for (index, direction), peers in asked.items():
        for peer, row in compiled.rows_about(compiled.subjects[index], direction, peers):
            rows[(index, peer.index) if direction == "egress" else (peer.index, index)] = row
    return rows


def _answer(compiled: Compiled, source: Subject, destination: Subject, row: Row | None, flow: ObservedFlow) -> Replayed:
    if row is not None:
        decision = compiled.decision(row.cells[compiled.class_set(row).class_of(flow.protocol, flow.port)])
        return Replayed(decision.verdict, decision.rules)
    # Nobody speaks of the two; who asks wants to know whose consent is missing all the same.
    classes = compiled.classes_for(frozenset(end.tenant for end in (source, destination) if end.tenant))
    outcome = compiled.outcome(source, destination, classes.class_set.class_of(flow.protocol, flow.port), classes)
    return Replayed(DENY, outcome.rules)
