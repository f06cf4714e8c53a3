"""Rules to verdicts: the precedence of language.md, *Meaning*, for one pair of subjects and one class of ports.

Each side that is a tenant's endpoint has to consent. A side's consent comes from the first tier that speaks: its tenant's
denials, its tenant's allows, the platform's baseline denials and allows, and else the default, which denies. Before both,
the platform's denials and allows decide for everybody. A rule with `audit` never opens what would be denied without it:
where it matches something that passes, the flow passes as would-deny.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hostward.model.inspection import Inspection, both
from hostward.model.limit import End
from hostward.policy.document import PLATFORM, Mode, Overload, PlatformPolicy, Policy, PolicySet
from hostward.policy.limits import RuleLimit, strictest
from hostward.policy.processes import Ends, Judged, holds, is_conditional, judge
from hostward.policy.subjects import NamedSide, Subject, Subjects
from hostward.policy.syntax import Action, PeerKind, Rule

ALLOW, DENY, WOULD_DENY = "allow", "deny", "would-deny"
# How long a rule with `keep` that is no more in force still lets its flows go on.
REMEMBERED = timedelta(days=30)
_BASELINE = f"{PLATFORM}/baseline/"


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A rule with its sides as sets of subjects. ``own`` is the tenant that `own` stands for, or empty."""

    rule: Rule
    owner: str
    own: str
    baseline: bool
    source_side: NamedSide
    destination_side: NamedSide
    revoked: bool = False  # it had `keep`: opens nothing, ends nothing that it opened

    @property
    def source(self) -> int:
        """The bit set of the subjects that may open."""
        return self.source_side.bits

    @property
    def destination(self) -> int:
        """The bit set of the subjects to whom is opened."""
        return self.destination_side.bits

    @property
    def speaker(self) -> str:
        """The tenant that must be one of the two ends, empty if the rule speaks of everybody."""
        return self.own if self.owner == PLATFORM else self.owner

    def concerns(self, source: Subject, destination: Subject) -> bool:
        """Whether it speaks of a pair: a tenant's rule only where one end is that tenant's own.

        The platform's `own` is the tenant of either end.
        """
        return not self.speaker or self.speaker in (source.tenant, destination.tenant)

    @property
    def tier(self) -> str:
        """The tier's name, as ``explain`` shows it."""
        place = "platform baseline" if self.baseline else "platform" if self.owner == PLATFORM else "tenant"
        return f"{place} {self.rule.action.value}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with the instances that made it; ``defaults`` are owners whose default decided.

    ``keeping`` are revoked rules by which flows that are open go on, though no new one may open. ``limits`` is of what
    is allowed: see ``hostward.policy.limits``. ``inspections`` likewise: by the end that inspects, every set of
    signatures that an allowing rule names. A tenant's own end does, the one that is opened to if both are its own.

    Where a rule has a process condition this is the outcome for processes that are not known, and ``opener`` and
    ``acceptor`` are what each end's host decides, by the process that it sees; see ``hostward.policy.processes``.
    """

    verdict: str
    deciding: tuple[Instance, ...]
    defaults: tuple[str, ...] = ()
    keeping: tuple[Instance, ...] = ()
    limits: tuple[RuleLimit, ...] = ()
    inspections: tuple[tuple[End, Inspection], ...] = ()
    opener: Judged[Outcome] | None = None
    acceptor: Judged[Outcome] | None = None

    @property
    def depends_on_process(self) -> bool:
        """Whether another process may get another outcome."""
        return self.opener is not None or self.acceptor is not None

    def between(self, ends: Ends) -> Outcome:
        """What becomes of a connection of these two processes: what the stricter end decides, the opener's first."""
        found = [
            judged.of(process)
            for judged, process in ((self.opener, ends.opener), (self.acceptor, ends.acceptor))
            if judged is not None
        ]
        return min(found, key=_rank) if found else self

    def inspected_at(self, end: End) -> Inspection:
        """What the host of one end inspects."""
        return both(inspection for where, inspection in self.inspections if where is end)

    @property
    def rules(self) -> tuple[str, ...]:
        """The ids that the verdict names."""
        return (*(i.rule.id for i in self.deciding), *(f"{owner}/default-deny" for owner in self.defaults))

    @property
    def log(self) -> bool:
        """Whether a deciding rule asks for a log."""
        return any(instance.rule.options.log for instance in self.deciding)

    @property
    def reject(self) -> bool:
        """Whether the sender is answered: only of a denial, and only if the rule that decided asks for it."""
        return self.verdict == DENY and any(instance.rule.options.reject for instance in self.deciding)

    @property
    def keep(self) -> bool:
        """Whether what opens so goes on once its rules are revoked: only if every one that had to allow it says so."""
        return self.verdict == ALLOW and all(instance.rule.options.keep for instance in self.deciding)


def instances(
    policies: PolicySet, subjects: Subjects, tenants: Iterable[str], now: datetime
) -> tuple[list[Instance], datetime | None]:
    """Every rule in force at ``now``, and the next moment at which one ceases to be.

    ``tenants`` are all that there are: the platform's `own` is each of them in turn.
    """
    found: list[Instance] = []
    moments: list[datetime] = []
    tenants = sorted(tenants)
    platform = policies.effective_platform
    for policy in (platform, *policies.tenants.values()):
        for rule, baseline, revoked in _listed(policy):
            end = rule.options.until
            if end is not None and end <= now and rule.options.keep and not revoked:
                # Its own end revokes it too: it is remembered from then on.
                end, revoked = end + REMEMBERED, True
            if end is not None and end <= now:
                continue
            if end is not None:
                moments.append(end)
            # In the platform's file `own` is each tenant in turn: "the same tenant's".
            owns = [policy.name] if policy is not platform else tenants if _uses_own(rule) else [""]
            for own in owns:
                source = subjects.side(rule.source, rule, policy.name, own)
                destination = subjects.side(rule.destination, rule, policy.name, own)
                found.append(Instance(rule, policy.name, own, baseline, source, destination, revoked))
    return found, min(moments, default=None)


def _listed(policy: Policy) -> Iterable[tuple[Rule, bool, bool]]:
    """Every rule of a policy, whether it is of the baseline, and whether it is revoked."""
    yield from ((rule, False, False) for rule in policy.rules)
    if isinstance(policy, PlatformPolicy):
        yield from ((rule, True, False) for rule in policy.baseline)
    yield from ((rule, rule.id.startswith(_BASELINE), True) for rule in policy.revoked)


def _uses_own(rule: Rule) -> bool:
    sides = (rule.source, rule.destination)
    return any(peer.kind is PeerKind.OWN for side in sides for peer in (*side.peers, *side.excluded))


def decide(policies: PolicySet, source: Subject, destination: Subject, matching: Iterable[Instance]) -> Outcome:
    """The verdict for a pair and the instances that match both its subjects and the class of ports.

    The same outcome whatever the order of ``matching``: of several rules that could have decided, the first that logs is
    named, else the first by id. Where it depends on a process, see ``Outcome``.
    """
    everything = list(matching)
    if not any(is_conditional(instance.rule) for instance in everything):
        return _decide_known(policies, source, destination, everything)

    def decide_for(ends: Ends) -> Outcome:
        return _decide_known(policies, source, destination, [i for i in everything if holds(i.rule, ends)])

    is_endpoint = (bool(source.tenant), bool(destination.tenant))
    opener, acceptor = judge([instance.rule for instance in everything], is_endpoint, decide_for, _rank)
    return _settled(replace(decide_for(Ends()), opener=opener, acceptor=acceptor))


def _settled(outcome: Outcome) -> Outcome:
    """The outcome without its conditions where every process gets the same all the same."""
    held = [judged for judged in (outcome.opener, outcome.acceptor) if judged is not None]
    first, *others = [decided for judged in held for _, decided in judged.all()]
    return outcome if any(other != first for other in others) else first


def _rank(outcome: Outcome) -> int:
    return (DENY, WOULD_DENY, ALLOW).index(outcome.verdict)


def _decide_known(
    policies: PolicySet, source: Subject, destination: Subject, everything: Sequence[Instance]
) -> Outcome:
    outcome = _decide(policies, source, destination, [i for i in everything if not i.revoked])
    if outcome.verdict == DENY and not outcome.deciding and any(i.revoked for i in everything):
        # Denied for want of a rule: what a revoked one would allow goes on, if nothing else is in its way.
        before = _decide(policies, source, destination, everything)
        if before.verdict != DENY:
            return replace(outcome, keeping=tuple(i for i in before.deciding if i.revoked))
    return outcome


def _decide(policies: PolicySet, source: Subject, destination: Subject, matching: Iterable[Instance]) -> Outcome:
    # A rule with `log` is named first, so that another one that matches too does not silence it.
    found = sorted(matching, key=lambda instance: (not instance.rule.options.log, instance.rule.id))
    platform = policies.effective_platform
    before = [i for i in found if i.owner == PLATFORM and not i.baseline]
    denials, allows, audits = _split(before, platform.mode)
    if denials:
        return Outcome(DENY, (denials[0],))
    if allows:
        if audits:
            return Outcome(WOULD_DENY, (audits[0],))
        ends = [end for end, subject in ((End.SOURCE, source), (End.DESTINATION, destination)) if subject.tenant]
        return Outcome(
            ALLOW, (allows[0],), limits=_limits(allows, ends), inspections=_inspections(allows, platform, ends)
        )
    tenants = dict.fromkeys(subject.tenant for subject in (source, destination) if subject.tenant)
    sides = [_side(policies, tenant, source, destination, found) for tenant in tenants]
    if not sides:
        return Outcome(DENY, (), (PLATFORM,))
    for verdict in (DENY, WOULD_DENY):
        for side in sides:
            if side.verdict == verdict:
                return side
    if audits:
        return Outcome(WOULD_DENY, (audits[0],))
    return Outcome(
        ALLOW,
        tuple(dict.fromkeys(instance for side in sides for instance in side.deciding)),
        limits=tuple(limit for side in sides for limit in side.limits),
        inspections=tuple(inspection for side in sides for inspection in side.inspections),
    )


def _limits(allows: Iterable[Instance], ends: Iterable[End]) -> tuple[RuleLimit, ...]:
    return strictest((instance.rule for instance in allows), ends)


def _inspections(allows: Iterable[Instance], policy: Policy, ends: Sequence[End]) -> tuple[tuple[End, Inspection], ...]:
    """At the last of the ends: what is opened to is what attacks are aimed at, and its own stack reads them."""
    names = {instance.rule.options.inspect for instance in allows} - {""}
    if not names or not ends:
        return ()
    return ((ends[-1], Inspection(tuple(sorted(names)), policy.overload is Overload.FAIL_CLOSED)),)


def _side(
    policies: PolicySet, tenant: str, source: Subject, destination: Subject, found: Sequence[Instance]
) -> Outcome:
    policy = policies.tenants.get(tenant)
    audit_mode = policy is not None and policy.mode is Mode.AUDIT
    denied = WOULD_DENY if audit_mode else DENY
    audited: list[Instance] = []
    platform = policies.effective_platform
    for tier, mode in (
        ([instance for instance in found if instance.owner == tenant], Mode.ENFORCE),
        ([instance for instance in found if instance.baseline], platform.mode),
    ):
        denials, allows, audits = _split(tier, mode)
        audited += audits
        if denials:
            return Outcome(denied, (denials[0],))
        if allows:
            if audited:
                return Outcome(WOULD_DENY, (audited[0],))
            ends = ((End.SOURCE, source), (End.DESTINATION, destination))
            here = [end for end, subject in ends if subject.tenant == tenant]
            speaker = platform if allows[0].baseline else policy
            return Outcome(
                ALLOW,
                (allows[0],),
                limits=_limits(allows, here),
                inspections=_inspections(allows, speaker or platform, here),
            )
    return Outcome(denied, (), (tenant,))


def _split(found: Iterable[Instance], mode: Mode) -> tuple[list[Instance], list[Instance], list[Instance]]:
    """Denials, allows, and denials that only audit: by their own option, or all of them where the mode says so."""
    denials: list[Instance] = []
    allows: list[Instance] = []
    audits: list[Instance] = []
    for instance in found:
        if instance.rule.action is Action.ALLOW:
            allows.append(instance)
        elif instance.rule.options.audit or mode is Mode.AUDIT:
            audits.append(instance)
        else:
            denials.append(instance)
    return denials, allows, audits
