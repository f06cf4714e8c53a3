"""Process conditions: which process a rule's `by process` and `at process` mean, and what each end's host can judge.

A host sees the process at its own end alone. The opener's host judges `by`, the acceptor's host `at`, and each leaves the
other to the other: there it takes an allow's condition as met and a denial's as not met, because the other host denies what
does not meet it. Where an end is no endpoint (the internet, the machine itself) there is no such host, and the process
there is not known.

Both hosts pass a connection, or it does not pass. That is the same as one judge of both processes only where what is
allowed is "one of these openers" and "one of these acceptors". It is not where, for one pair and port, one rule asks who
opens and another who accepts: then the opener's host alone decides, as if nobody knew who accepts, which never passes more
than the rules say. See docs/adr/0014-process-conditions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Generic, TypeVar

from hostward.policy.syntax import Action, Rule

# A name without a slash stands for this file in each of the directories where a distribution puts its executables.
SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# What the kernel's programs walk from a file to the root; longer paths are of processes that are not known.
MOST_NAMES = 40
NAME_BYTES = 63
TELLABLE = (
    f"name a file in one of {', '.join(SEARCHED)}, or write its whole path: at most {MOST_NAMES} names "
    f"of at most {NAME_BYTES} bytes"
)
# Pairs of an opener and an acceptor that are tried before a question counts as one that the ends cannot judge apart.
_MOST_PAIRS = 1_024


class Stand(Enum):
    """What stands in place of an executable's path."""

    OTHER = "other"  # a process that is known, of an executable that no rule names
    UNKNOWN = "unknown"  # satisfies no allow and every deny
    ELSEWHERE = "elsewhere"  # the other end's host judges it: satisfies every allow and no deny


Process = str | Stand
_Decided = TypeVar("_Decided")


@dataclass(frozen=True, slots=True)
class Ends:
    """The processes of one connection; what is not said is not known."""

    opener: Process = Stand.UNKNOWN
    acceptor: Process = Stand.UNKNOWN


@dataclass(frozen=True, slots=True)
class Judged(Generic[_Decided]):
    """What one end's host decides, by the process at that end. ``named`` has no path twice."""

    unknown: _Decided
    other: _Decided
    named: tuple[tuple[tuple[str, ...], _Decided], ...] = ()

    def of(self, process: Process) -> _Decided:
        """What it decides of one process."""
        if process is Stand.UNKNOWN:
            return self.unknown
        return next((decided for paths, decided in self.named if process in paths), self.other)

    def all(self) -> list[tuple[Process, _Decided]]:
        """Everything that it can decide, with a process of which it does."""
        named: list[tuple[Process, _Decided]] = [(paths[0], decided) for paths, decided in self.named]
        return [*named, (Stand.OTHER, self.other), (Stand.UNKNOWN, self.unknown)]


def process_name(process: Process) -> str:
    """A process as an answer names it."""
    return f"{process.value} process" if isinstance(process, Stand) else process


def paths_of(executable: str) -> tuple[str, ...]:
    """The paths that a condition's word stands for, in the endpoint's own file system."""
    return (executable,) if "/" in executable else tuple(f"{directory}/{executable}" for directory in SEARCHED)


def is_tellable(executable: str) -> bool:
    """Whether there can be a process of such an executable that is known."""
    return all(
        path.startswith("/")
        and len(names := path[1:].split("/")) <= MOST_NAMES
        and all(name not in ("", ".", "..") and len(name.encode()) <= NAME_BYTES for name in names)
        for path in paths_of(executable)
    )


def is_conditional(rule: Rule) -> bool:
    """Whether it depends on a process."""
    return bool(rule.options.by_process or rule.options.at_process)


def holds(rule: Rule, ends: Ends) -> bool:
    """Whether the processes meet a rule's conditions."""
    return _meets(rule.options.by_process, ends.opener, rule.action) and _meets(
        rule.options.at_process, ends.acceptor, rule.action
    )


def _meets(condition: tuple[str, ...], process: Process, action: Action) -> bool:
    if not condition:
        return True
    if isinstance(process, Stand):
        return process is (Stand.ELSEWHERE if action is Action.ALLOW else Stand.UNKNOWN)
    return any(process in paths_of(executable) for executable in condition)


def judge(
    rules: Sequence[Rule],
    is_endpoint: tuple[bool, bool],
    decide: Callable[[Ends], _Decided],
    rank: Callable[[_Decided], int],
) -> tuple[Judged[_Decided] | None, Judged[_Decided] | None]:
    """What the opener's host decides, and what the acceptor's; None of an end that is no endpoint.

    ``rules`` are those that match but for their conditions, ``decide`` is the verdict for two processes, ``rank`` grows
    with what passes.
    """
    openers, acceptors = (_told_apart([(r, option(r)) for r in rules]) for option in (_by, _at))
    if not all(is_endpoint):
        opener = _judged(openers, lambda process: decide(Ends(opener=process))) if is_endpoint[0] else None
        acceptor = _judged(acceptors, lambda process: decide(Ends(acceptor=process))) if is_endpoint[1] else None
        return opener, acceptor
    opener = _judged(openers, lambda process: decide(Ends(process, Stand.ELSEWHERE)))
    acceptor = _judged(acceptors, lambda process: decide(Ends(Stand.ELSEWHERE, process)))
    if not _can_be_apart(opener, acceptor, decide, rank):
        opener = _judged(openers, lambda process: decide(Ends(opener=process)))
    return opener, acceptor


def are_judged_apart(tiers: Sequence[Sequence[Rule]]) -> bool:
    """Whether the two ends' hosts pass together exactly what rules say that all match the same connections.

    ``tiers`` are their rules in order of precedence; within one a denial comes first.
    """

    def decide(ends: Ends) -> int:
        for rules in tiers:
            actions = {rule.action for rule in rules if holds(rule, ends)}
            if actions:
                return int(Action.DENY not in actions)
        return 0

    rules = [rule for tier in tiers for rule in tier]
    openers, acceptors = (_told_apart([(r, option(r)) for r in rules]) for option in (_by, _at))
    opener = _judged(openers, lambda process: decide(Ends(process, Stand.ELSEWHERE)))
    acceptor = _judged(acceptors, lambda process: decide(Ends(Stand.ELSEWHERE, process)))
    return _can_be_apart(opener, acceptor, decide, int)


def _by(rule: Rule) -> tuple[str, ...]:
    return rule.options.by_process


def _at(rule: Rule) -> tuple[str, ...]:
    return rule.options.at_process


def _told_apart(conditions: Sequence[tuple[Rule, tuple[str, ...]]]) -> tuple[tuple[str, ...], ...]:
    """Every path that a condition names, those together that the same rules name."""
    naming: dict[str, list[int]] = {}
    for number, (_, condition) in enumerate(conditions):
        for path in dict.fromkeys(path for executable in condition for path in paths_of(executable)):
            naming.setdefault(path, []).append(number)
    together: dict[tuple[int, ...], list[str]] = {}
    for path, numbers in naming.items():
        together.setdefault(tuple(numbers), []).append(path)
    return tuple(sorted(tuple(sorted(paths)) for paths in together.values()))


def _judged(groups: tuple[tuple[str, ...], ...], decide: Callable[[Process], _Decided]) -> Judged[_Decided]:
    named = tuple((paths, decide(paths[0])) for paths in groups)
    return Judged(decide(Stand.UNKNOWN), decide(Stand.OTHER), named)


def _can_be_apart(
    opener: Judged[_Decided],
    acceptor: Judged[_Decided],
    decide: Callable[[Ends], _Decided],
    rank: Callable[[_Decided], int],
) -> bool:
    """Whether both ends, each by its own process, pass exactly what one judge of both would."""
    if not opener.named or not acceptor.named:
        return True
    pairs = list(product(opener.all(), acceptor.all()))
    return len(pairs) <= _MOST_PAIRS and all(
        rank(decide(Ends(one, other))) == min(rank(here), rank(there)) for (one, here), (other, there) in pairs
    )
