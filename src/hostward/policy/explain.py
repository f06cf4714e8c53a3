"""Why a flow is allowed or denied: the verdict from the compiled rules, the rules that decided, and those that lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from hostward.errors import NotFoundError, UsageError
from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint
from hostward.policy.asked_ports import asked_ports, asked_text
from hostward.policy.compiler import Compiled, compile_policy
from hostward.policy.document import PLATFORM, Policy, PolicySet
from hostward.policy.grammar import LineError, parse_ports
from hostward.policy.limits import rate_text
from hostward.policy.numbers import Numbers
from hostward.policy.ports import Classes
from hostward.policy.processes import Ends, Judged, Process, Stand, holds, paths_of, process_name
from hostward.policy.subjects import Subject, every_rule
from hostward.policy.syntax import PortRange, Rule
from hostward.policy.verdicts import Outcome
from hostward.policy.witness import witnesses

MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Lost:
    """A rule that speaks of this pair and did not decide, and why."""

    rule: str
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit of what is allowed: at most ``limit``, for each endpoint at that end (``source`` or ``destination``)."""

    rule: str
    limit: str
    end: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one question; the fields are those of the command line's JSON."""

    verdict: str
    rule: str
    text: str
    tier: str
    rules: tuple[str, ...]
    revision: int
    lost: tuple[Lost, ...] = ()
    cases: tuple[Mapping[str, str], ...] = ()
    limits: tuple[Limited, ...] = ()


@dataclass(frozen=True, slots=True)
class _Party:
    """One side of a question: who is asked about first, and the real members where it is a group."""

    name: str
    subject: Subject | None
    members: Mapping[str, Subject | None] = field(default_factory=dict)


def explain(
    policies: PolicySet,
    endpoints: Iterable[Endpoint],
    source: str,
    destination: str,
    port: str,
    now: datetime,
    revision: int = 0,
    process: str = "",
) -> Explanation:
    """Answer whether ``source`` may open ``port`` at ``destination``, by ``process`` if that is said.

    Each is an endpoint, a group, ``tenant/name``, ``internet``, ``host`` or an IP address; ``endpoint:`` and ``group:``
    in front disambiguate. Raises UsageError for an ambiguous or malformed question and NotFoundError for an unknown name.
    """
    compiled = compile_policy(policies, endpoints, Numbers.empty(), now)
    question = _Question(_port(port), _openers(process), revision)
    finder = _Finder(compiled)
    network = finder.network_of(source) or finder.network_of(destination) or DEFAULT_NETWORK
    parties = (finder.party(source, network), finder.party(destination, network))
    main = _answer(compiled, parties[0].subject, parties[1].subject, question)
    if not parties[0].members and not parties[1].members:
        return main
    cases: list[dict[str, str]] = []
    answers = {(main.verdict, main.rules, _told(main.cases))}
    # Members of one subject cannot differ: a group of thousands is asked about once for each identity.
    known: dict[tuple[Subject | None, Subject | None], Explanation] = {}
    for name_a, a in (parties[0].members or {parties[0].name: parties[0].subject}).items():
        for name_b, b in (parties[1].members or {parties[1].name: parties[1].subject}).items():
            if (a, b) not in known:
                known[a, b] = _answer(compiled, a, b, question)
            case = known[a, b]
            cases.append({"from": name_a, "to": name_b, "verdict": case.verdict, "rule": case.rule})
            answers.add((case.verdict, case.rules, _told(case.cases)))
    if len(answers) == 1 or (main.verdict != MIXED and len({verdict for verdict, _, _ in answers}) == 1):
        return main
    return Explanation(MIXED, "", "", "", (), revision, main.lost, (*main.cases, *cases))


def _told(cases: Sequence[Mapping[str, str]]) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(tuple(case.items()) for case in cases)


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of each pair. ``openers`` are the paths that the opening process may have; empty: any process."""

    port: PortRange
    openers: tuple[str, ...]
    revision: int


def _openers(process: str) -> tuple[str, ...]:
    if not process:
        return ()
    if "/" in process and not process.startswith("/"):
        raise UsageError("an executable is named by its whole path", subject=process, hint="write e.g. /usr/sbin/nginx")
    return paths_of(process)


def _port(text: str) -> PortRange:
    try:
        line = parse_ports(text)
    except LineError as error:
        raise UsageError(
            error.message, subject=text, hint=error.hint or "write e.g. tcp/443 or icmp/echo-request"
        ) from None
    if len(line.ports) != 1 or line.services:
        raise UsageError("a question is about one protocol and port", subject=text, hint="write e.g. tcp/443")
    return line.ports[0]


class _Finder:
    """Finds who a word of a question means."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._policies = compiled.policies

    def network_of(self, text: str) -> str:
        """The network of the endpoint that a word names, empty if it names none."""
        found = self._endpoints(text.removeprefix("endpoint:"))
        return found[0].network if len(found) == 1 else ""

    def party(self, text: str, network: str) -> _Party:
        kind, _, name = text.partition(":") if text.startswith(("endpoint:", "group:")) else ("", "", text)
        if name == "internet" and not kind:
            return _Party(text, self._compiled.subjects.internet)
        if name == "host" and not kind:
            return _Party(text, self._compiled.subjects.host)
        if not kind:
            try:
                address = str(ip_address(name))
            except ValueError:
                pass
            else:
                return _Party(text, self._compiled.subject_of_address(address, network))
        endpoints = self._endpoints(name) if kind != "group" else []
        groups = self._groups(name) if kind != "endpoint" else []
        if len(endpoints) + len(groups) > 1:
            candidates = [f"endpoint:{e.id}" for e in endpoints] + [f"group:{policy.name}/{g}" for policy, g in groups]
            raise UsageError(f"{text!r} may be {' or '.join(candidates)}", hint="say which")
        if endpoints:
            return self._endpoint(endpoints[0])
        if groups:
            return self._group(*groups[0], network)
        raise NotFoundError(
            f"there is no endpoint and no group {text!r}", hint="`hostward get endpoints` and `get groups`"
        )

    def _endpoints(self, name: str) -> list[Endpoint]:
        return [e for e in self._compiled.endpoints.values() if name in (e.id, e.name)]

    def _groups(self, name: str) -> list[tuple[Policy, str]]:
        tenant, slash, group = name.rpartition("/")
        everybody: list[Policy] = [self._policies.effective_platform, *self._policies.tenants.values()]
        return [(p, group) for p in everybody if group in p.groups and (not slash or p.name == tenant)]

    def _endpoint(self, endpoint: Endpoint) -> _Party:
        subjects = {
            address: self._compiled.of_address[endpoint.network, str(ip_address(address))][1]
            for address in endpoint.addresses
        }
        first = next(iter(subjects.values()), None)
        members = {f"{endpoint.id} {a}": s for a, s in subjects.items()} if len(set(subjects.values())) > 1 else {}
        return _Party(endpoint.id, first, members)

    def _group(self, policy: Policy, name: str, network: str) -> _Party:
        group = policy.groups[name]
        text = f"{policy.name}/{name}"
        if group.expression is None:
            members = {
                str(prefix): self._compiled.subject_of_address(str(prefix.network_address), network)
                for prefix in group.prefixes
            }
            return _Party(text, next(iter(members.values()), None), members if len(members) > 1 else {})
        found = witnesses(group.expression, policy.groups)
        if not found:
            raise UsageError("no labels can satisfy this group", subject=text, hint=f"its expression is {group.text!r}")
        tenant = "" if policy.name == PLATFORM else policy.name
        # Only this group: of the label sets that satisfy it, one that is in the fewest others.
        labels = min(found, key=lambda labels: len(self._compiled.subjects.groups_of(tenant, labels)))
        subject = self._compiled.subject_of_labels(tenant, network, labels)
        members = {
            f"{endpoint.id} {address}": self._compiled.of_address[endpoint.network, str(ip_address(address))][1]
            for endpoint in self._compiled.endpoints.values()
            if (policy.name == PLATFORM or endpoint.tenant == policy.name)
            and group.expression.holds(endpoint.labels, policy.groups)
            for address in endpoint.addresses
        }
        return _Party(text, subject, members)


def _answer(
    compiled: Compiled, source: Subject | None, destination: Subject | None, question: _Question
) -> Explanation:
    revision = question.revision
    unknown = Explanation("deny", "hostward/unknown-peer", "", "unknown peer", ("hostward/unknown-peer",), revision)
    if source is None or destination is None:
        return unknown
    if source.network and destination.network and source.network != destination.network:
        return unknown
    tenants = frozenset(subject.tenant for subject in (source, destination) if subject.tenant)
    classes = compiled.classes_for(tenants)
    asked = asked_ports(classes.class_set, question.port)
    outcomes = {cls: compiled.outcome(source, destination, cls, classes) for cls in asked}
    matter = _Matter.of(outcomes.values())
    between = {
        (cls, ends): outcome.between(ends)
        for cls, outcome in outcomes.items()
        for ends in _ends(outcome, question, matter)
    }
    (cls, ends), outcome = next(iter(between.items()))
    lost = _lost(compiled, source, destination, cls, classes, outcome, ends)
    if len({outcome.verdict for outcome in between.values()}) > 1:
        cases = _cases(between, asked, matter)
        winners = {rule for outcome in between.values() for rule in outcome.rules}
        lost = tuple(loser for loser in lost if loser.rule not in winners)
        return Explanation(MIXED, "", "", "", (), revision, lost, cases)
    rules = outcome.rules
    text = "; ".join(instance.rule.text for instance in outcome.deciding)
    tier = outcome.deciding[0].tier if outcome.deciding else "default deny"
    limits = tuple(Limited(limit.rule, rate_text(limit.rate), limit.end.value) for limit in outcome.limits)
    return Explanation(outcome.verdict, rules[0] if rules else "", text, tier, rules, revision, lost, limits=limits)


@dataclass(frozen=True, slots=True)
class _Matter:
    """Whether the process at either end can change an answer."""

    opener: bool
    acceptor: bool

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> _Matter:
        found = list(outcomes)
        return cls(any(_differs(o.opener) for o in found), any(_differs(o.acceptor) for o in found))


def _differs(judged: Judged[Outcome] | None) -> bool:
    return judged is not None and len({(o.verdict, o.rules) for _, o in judged.all()}) > 1


def _ends(outcome: Outcome, question: _Question, matter: _Matter) -> Iterator[Ends]:
    """The processes for which an answer may differ."""
    openers: Iterable[Process] = [Stand.UNKNOWN]
    if outcome.opener is not None:
        everyone = [process for process, _ in outcome.opener.all()] if matter.opener else [Stand.UNKNOWN]
        openers = question.openers or everyone
    acceptors: Iterable[Process] = [Stand.UNKNOWN]
    if outcome.acceptor is not None and matter.acceptor:
        acceptors = [process for process, _ in outcome.acceptor.all()]
    yield from (Ends(opener, acceptor) for opener in openers for acceptor in acceptors)


def _cases(
    between: Mapping[tuple[int, Ends], Outcome], asked: Mapping[int, Sequence[PortRange]], matter: _Matter
) -> tuple[dict[str, str], ...]:
    """What is told apart by ports or processes; ports of one verdict by the same rules stand together."""
    together: dict[tuple[Ends, str, str], list[PortRange]] = {}
    for (cls, ends), outcome in between.items():
        together.setdefault((ends, outcome.verdict, ", ".join(outcome.rules)), []).extend(asked[cls])
    whole = sum(map(len, asked.values())) == 1
    return tuple(
        {
            **({} if whole else {"ports": asked_text(ports)}),
            **({"by": process_name(ends.opener)} if matter.opener else {}),
            **({"at": process_name(ends.acceptor)} if matter.acceptor else {}),
            "verdict": verdict,
            "rule": rule,
        }
        for (ends, verdict, rule), ports in together.items()
    )


def _names(compiled: Compiled, policy: Policy, rule: Rule, source: Subject, destination: Subject) -> bool:
    """Whether a rule that is not in force any more spoke of the pair."""
    subjects = compiled.subjects
    owns = [policy.name] if policy.name != PLATFORM else [source.tenant, destination.tenant]
    return any(
        subjects.side(rule.source, rule, policy.name, own).bits >> source.index & 1
        and subjects.side(rule.destination, rule, policy.name, own).bits >> destination.index & 1
        for own in owns
    )


def _lost(
    compiled: Compiled,
    source: Subject,
    destination: Subject,
    cls: int,
    classes: Classes,
    outcome: Outcome,
    ends: Ends,
) -> tuple[Lost, ...]:
    deciding = {instance.rule.id for instance in outcome.deciding}
    lost: dict[str, Lost] = {}
    tenants = {source.tenant, destination.tenant, PLATFORM}
    in_force: dict[str, Rule] = {instance.rule.id: instance.rule for instance in compiled.rules}
    for instance in compiled.rules_about(source, destination):
        rule = instance.rule
        if rule.id in deciding:
            continue
        if not classes.matches(cls, rule.ports):
            why = "its ports do not hold this one"
        elif not holds(rule, ends):
            why = f"its process condition is not met: {process_name(ends.opener)} to {process_name(ends.acceptor)}"
        elif outcome.deciding:
            first = outcome.deciding[0]
            before = "says the same" if first.tier == instance.tier else f"comes before it, as a {instance.tier}"
            why = f"{first.rule.id} ({first.tier}) {before}"
        else:
            why = f"the other side does not consent: {outcome.rules[0]} decides"
        lost[rule.id] = Lost(rule.id, rule.text, why)
    for policy in (compiled.policies.effective_platform, *compiled.policies.tenants.values()):
        for rule in every_rule(policy):
            ended = rule.id not in in_force and policy.name in tenants and rule.options.until is not None
            if ended and _names(compiled, policy, rule, source, destination):
                lost[rule.id] = Lost(rule.id, rule.text, f"it ended at {rule.options.until:%Y-%m-%dT%H:%M:%SZ}")
    return tuple(lost.values())
