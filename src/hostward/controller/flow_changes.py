"""A change of policy as the flows that it would newly allow or deny, between groups and the internet.

A group stands for an endpoint that satisfies only that group's expression (language.md, *Meaning* 8), or for the first of
its prefixes. Both revisions are compiled and asked about every port at which either changes its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from hostward.model.endpoint import DEFAULT_NETWORK
from hostward.model.slice import PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP
from hostward.policy import Numbers, PolicySet, compile_policy
from hostward.policy.compiler import Compiled
from hostward.policy.document import PLATFORM, Policy
from hostward.policy.ports import Classes
from hostward.policy.processes import Judged, Process, process_name
from hostward.policy.subjects import Subject
from hostward.policy.verdicts import Outcome
from hostward.policy.witness import witnesses

INTERNET = "internet"
# Beyond so many pairs of groups and rules to try on each a plan shows rules only: it must stay a matter of seconds.
WORK_LIMIT = 1_000_000

_SPACES = {PROTO_TCP: "tcp", PROTO_UDP: "udp", PROTO_SCTP: "sctp", PROTO_ICMP: "icmp", PROTO_ICMPV6: "icmpv6"}
_LAST = {PROTO_TCP: 65_535, PROTO_UDP: 65_535, PROTO_SCTP: 65_535, PROTO_ICMP: 255, PROTO_ICMPV6: 255}
_EVERYTHING = "any"


@dataclass(frozen=True, slots=True)
class FlowChange:
    """Flows between two groups on some ports whose verdict changes, and the rules that then decide."""

    source: str
    destination: str
    ports: str
    before: str
    after: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Side:
    """One revision, and who stands in it for each group."""

    compiled: Compiled
    stand_ins: Mapping[str, Subject]


def flow_changes(old: PolicySet, new: PolicySet, now: datetime) -> tuple[FlowChange, ...] | None:
    """Every change between two groups, or a group and the internet; None where that would take too long."""
    names = sorted({*_group_names(old), *_group_names(new)})
    rules = max(_rule_count(old), _rule_count(new), 1)
    if (len(names) + 1) ** 2 * rules > WORK_LIMIT:
        return None
    before, after = _side(old, now), _side(new, now)
    found: list[FlowChange] = []
    for source in (*names, INTERNET):
        for destination in (*names, INTERNET):
            if source != INTERNET or destination != INTERNET:
                found += _pair(before, after, source, destination)
    return tuple(found)


def _group_names(policies: PolicySet) -> Iterator[str]:
    for policy in (policies.effective_platform, *policies.tenants.values()):
        yield from (f"{policy.name}/{group}" for group in policy.groups)


def _rule_count(policies: PolicySet) -> int:
    platform = policies.effective_platform
    return len(platform.rules) + len(platform.baseline) + sum(len(t.rules) for t in policies.tenants.values())


def _side(policies: PolicySet, now: datetime) -> _Side:
    compiled = compile_policy(policies, [], Numbers.empty(), now)
    stand_ins: dict[str, Subject] = {}
    for policy in (policies.effective_platform, *policies.tenants.values()):
        for name in policy.groups:
            subject = _stand_in(compiled, policy, name)
            if subject is not None:
                stand_ins[f"{policy.name}/{name}"] = subject
    internet = compiled.subjects.internet
    return _Side(compiled, {**stand_ins, INTERNET: internet})


def _stand_in(compiled: Compiled, policy: Policy, name: str) -> Subject | None:
    group = policy.groups[name]
    networks = compiled.policies.effective_platform.networks
    network = DEFAULT_NETWORK if DEFAULT_NETWORK in networks else next(iter(networks), DEFAULT_NETWORK)
    if group.expression is None:
        first = next(iter(group.prefixes), None)
        return None if first is None else compiled.subject_of_address(str(first.network_address), network)
    candidates = witnesses(group.expression, policy.groups)
    if not candidates:
        return None
    tenant = "" if policy.name == PLATFORM else policy.name
    labels = min(candidates, key=lambda labels: len(compiled.subjects.groups_of(tenant, labels)))
    return compiled.subject_of_labels(tenant, network, labels)


def _pair(before: _Side, after: _Side, source: str, destination: str) -> Iterator[FlowChange]:
    old, new = _Answers(before, source, destination), _Answers(after, source, destination)
    changes: list[FlowChange] = []
    for protocol, last in _LAST.items():
        edges = sorted({*old.edges(protocol), *new.edges(protocol)})
        start = len(changes)
        for first, following in zip(edges, [*edges[1:], last + 1], strict=True):
            (verdict, _), (verdict_after, rules) = old.verdict(protocol, first), new.verdict(protocol, first)
            if verdict == verdict_after:
                continue
            whole = first == 0 and following == last + 1
            ports = _SPACES[protocol] if whole else f"{_SPACES[protocol]}/{_range(first, following - 1)}"
            changes.append(FlowChange(source, destination, ports, verdict, verdict_after, rules))
        changes[start:] = _joined(changes[start:])
    numbers = sorted({*old.other_protocols(), *new.other_protocols()})
    for number in numbers:
        (verdict, _), (verdict_after, rules) = old.verdict(number, 0), new.verdict(number, 0)
        if verdict != verdict_after:
            changes.append(FlowChange(source, destination, f"proto/{number}", verdict, verdict_after, rules))
    kinds = {(change.before, change.after, change.rules) for change in changes}
    whole_spaces = {change.ports for change in changes} >= set(_SPACES.values())
    if len(kinds) == 1 and whole_spaces:
        yield replace(changes[0], ports=_EVERYTHING)
    else:
        yield from changes


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _joined(changes: list[FlowChange]) -> list[FlowChange]:
    """Neighbouring ranges of one protocol with the same change, as one line."""
    joined: list[FlowChange] = []
    for change in changes:
        if joined and (joined[-1].before, joined[-1].after, joined[-1].rules) == (
            change.before,
            change.after,
            change.rules,
        ):
            protocol, _, held = joined[-1].ports.partition("/")
            _, _, more = change.ports.partition("/")
            held_last, more_first = int(held.split("-")[-1]), int(more.split("-", maxsplit=1)[0])
            if held_last + 1 == more_first:
                ports = f"{protocol}/{held.split('-', maxsplit=1)[0]}-{more.split('-')[-1]}"
                joined[-1] = replace(change, ports=ports)
                continue
        joined.append(change)
    return joined


class _Answers:
    """What one revision says of one pair, by port. Where a group does not exist everything is denied."""

    def __init__(self, side: _Side, source: str, destination: str) -> None:
        self._compiled = side.compiled
        self._source = side.stand_ins.get(source)
        self._destination = side.stand_ins.get(destination)
        self._classes: Classes | None = None
        if self._source is not None and self._destination is not None:
            tenants = frozenset(s.tenant for s in (self._source, self._destination) if s.tenant)
            self._classes = self._compiled.classes_for(tenants)
        self._known: dict[int, tuple[str, tuple[str, ...]]] = {}

    def edges(self, protocol: int) -> list[int]:
        """Where the ports of a protocol are cut."""
        if self._classes is None:
            return [0]
        held = self._classes.class_set
        spaces = {
            PROTO_TCP: held.tcp,
            PROTO_UDP: held.udp,
            PROTO_SCTP: held.sctp,
            PROTO_ICMP: held.icmp,
            PROTO_ICMPV6: held.icmpv6,
        }
        return [first for first, _ in spaces[protocol]]

    def other_protocols(self) -> list[int]:
        """The protocols without ports at which the answer may change."""
        return [] if self._classes is None else [n for n, _ in self._classes.class_set.proto if n not in _SPACES]

    def verdict(self, protocol: int, port: int) -> tuple[str, tuple[str, ...]]:
        """Verdict and deciding rules."""
        if self._classes is None or self._source is None or self._destination is None:
            return "deny", ()
        cls = self._classes.class_set.class_of(protocol, port)
        if cls not in self._known:
            outcome = self._compiled.outcome(self._source, self._destination, cls, self._classes)
            self._known[cls] = _said(outcome)
        return self._known[cls]


def _said(outcome: Outcome) -> tuple[str, tuple[str, ...]]:
    """A verdict as the plan says it, with the processes that get another one, and every rule that has a part in it."""
    said = outcome.verdict
    rules = dict.fromkeys(outcome.rules)
    for word, judged in (("by", outcome.opener), ("at", outcome.acceptor)):
        if judged is None:
            continue
        better: dict[str, list[str]] = {}
        for process, decided in judged.all():
            rules.update(dict.fromkeys(decided.rules))
            if decided.verdict != outcome.verdict:
                better.setdefault(decided.verdict, []).extend(_names(process, judged))
        if any(decided.verdict != judged.unknown.verdict for _, decided in judged.all()):
            said += "".join(f"; {verdict} {word} process {', '.join(names)}" for verdict, names in better.items())
    return said, tuple(rules)


def _names(process: Process, judged: Judged[Outcome]) -> tuple[str, ...]:
    return next((paths for paths, _ in judged.named if process in paths), (process_name(process),))
