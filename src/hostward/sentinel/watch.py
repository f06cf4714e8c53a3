"""Whether there is to be a pulse: what was attested, what is coming, and when the agent was seen. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from hostward.datapath.attached import Attached

# Changes on their way at once; an agent announces one at a time.
_COMING_MAX = 16
_NAMED = 3


class Watch:
    """``now_s`` is one monotonic clock everywhere. ``grace_s`` is how long the agent may be away.

    All changes together that were not attested yet are taken for ``pending_s``, counted from the first of them: who
    announces one after the other gains no time. While the agent is at a change, whatever is read is taken within that time.
    """

    def __init__(self, grace_s: float, pending_s: float) -> None:
        self._grace_s, self._pending_s = grace_s, pending_s
        self._attested: Attached | None = None
        self._coming: list[Attached] = []
        self._coming_until_s = 0.0
        self._at_work = False
        self._counting = False  # towards that moment: something was announced and not attested since
        self._seen_s: float | None = None
        self.host, self.epoch = b"", 0

    def attested(self, host: bytes, epoch: int, state: Attached, now_s: float) -> None:
        """This is what has to be there from now on, or what was announced after it."""
        self._seen_s = now_s
        self.host, self.epoch, self._attested = host, epoch, state
        if state in self._coming:
            # What was announced later is still to be attested, and has its own time for it.
            self._coming = self._coming[self._coming.index(state) + 1 :]
            self._coming_until_s = now_s + self._pending_s
        elif not self._coming or now_s >= self._coming_until_s:
            self._coming = []
            self._coming_until_s = now_s + self._pending_s
        self._counting = bool(self._coming) or self._at_work

    def changing(self, now_s: float) -> None:
        """The agent begins to change something."""
        self._seen_s = now_s
        self._count(now_s)
        self._at_work = True

    def pending(self, state: Attached, now_s: float) -> None:
        """A change that is coming."""
        self._seen_s = now_s
        self._count(now_s)
        self._at_work = False
        if state not in self._coming:
            self._coming = [*self._coming, state][-_COMING_MAX:]

    def left(self) -> None:
        """Who announced changes is gone; what was begun is not finished by anybody."""
        self._at_work = False

    def _count(self, now_s: float) -> None:
        if not self._counting:
            self._counting, self._coming_until_s = True, now_s + self._pending_s

    def alive(self, now_s: float) -> None:
        """The agent was seen."""
        self._seen_s = now_s

    def objection(self, read: Attached, now_s: float) -> str:
        """Why there is to be no pulse; empty if there is to be one."""
        if self._attested is None or self._seen_s is None:
            return "nothing has been attested yet"
        if now_s - self._seen_s > self._grace_s:
            return f"the agent has been away for more than {self._grace_s:g} s"
        if read == self._attested:
            return ""
        if self._at_work or read in self._coming:
            return "" if now_s < self._coming_until_s else f"a change was not attested within {self._pending_s:g} s"
        differing = [
            *_differing("program", self._attested.programs, read.programs),
            *_differing("policy", self._attested.policies, read.policies),
        ]
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        return f"not what was attested: {', '.join(differing[:_NAMED])}{more}"


def _differing(kind: str, attested: Mapping[str, bytes], read: Mapping[str, bytes]) -> list[str]:
    names = sorted(attested.keys() | read.keys())
    return [f"{kind} of {name}" for name in names if attested.get(name) != read.get(name)]
