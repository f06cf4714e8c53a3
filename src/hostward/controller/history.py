"""The publications that a delta may still start from: recent ones, of a few policies at most.

Owns how long an old revision stays in memory. Revisions of one policy share almost everything, so many are cheap; each
policy is a compilation of its own and may take hundreds of megabytes, whatever holds on to it. So nothing else does: a
host whose base is gone from here gets a snapshot.
"""

from __future__ import annotations

from collections import deque

from hostward.controller.publication import Publication

# The policy in force, the one before, which most hosts hold while it is rolled out, and one more for those that lag.
KEPT_POLICIES = 3
# Changes of endpoints that a host may lag behind. Each costs some ten kilobytes.
KEPT_REVISIONS = 256


class History:
    """The newest publication and those before it. Callable from the event loop's thread."""

    def __init__(self, policies: int = KEPT_POLICIES, revisions: int = KEPT_REVISIONS) -> None:
        self._policies = policies
        self._revisions = revisions
        self._kept: deque[Publication] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def newest(self) -> Publication | None:
        """What every host is to enforce; None before the first publication."""
        return self._kept[-1] if self._kept else None

    def add(self, publication: Publication) -> None:
        """A newer one; the oldest are let go."""
        self._kept.append(publication)
        while len(self._kept) > self._revisions or self._count_policies() > self._policies:
            self._kept.popleft().forget_slices()

    def find(self, revision: int) -> Publication | None:
        """The publication of a revision, if it is still here."""
        return next((kept for kept in reversed(self._kept) if kept.revision == revision), None)

    def _count_policies(self) -> int:
        newer = list(self._kept)[1:]
        return 1 + sum(not new.compiled.shares_with(old.compiled) for old, new in zip(self._kept, newer, strict=False))
