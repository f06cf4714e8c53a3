"""What a lint has to say: a value that `policy check`, the controller, and whoever watches traffic can make.

Findings never refuse a policy: each is something that is probably not meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostward.policy.syntax import Place


class Severity(Enum):
    """Whether `--strict` fails for it."""

    WARNING = "warning"
    INFO = "info"


# Every kind of finding. Whoever adds one from elsewhere adds its word here, so that the reference names it.
CODES = {
    "shadowed": "a rule never decides: rules that come before it decide wherever it matches",
    "redundant": "a rule could be removed without changing a verdict: others like it match wherever it does",
    "matches-nobody": "a rule has nobody on one of its sides, or none of its ends is the tenant's own",
    "prefix-in-pool": "a tenant's allow names addresses in a pool: prefixes never allow endpoints",
    "idle-exception": "what stands after `except` takes nobody out",
    "not-exported": "a rule names a group of another tenant that it does not export",
    "one-sided": "a tenant allows what no rule of the other tenant, or of the platform, consents to",
    "not-apart": "one rule asks who opens and another who accepts, where both match: they pass less than they say",
    "expired": "a rule's `until` has passed",
    "unused-group": "no rule, assertion, export or other group names a group",
    "unused-service": "no rule or assertion names a service",
    "unused-export": "no other tenant names an exported group",
    "empty-group": "no endpoint is in a group now",
    "unsatisfiable-group": "no labels can satisfy a group's expression",
    "not-checked": "the policy is too large for one of these questions",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``policy`` is the tenant it is about, ``rule`` the id of its rule, or empty; ``others`` are rules that
    cause it."""

    code: str
    severity: Severity
    policy: str
    place: Place
    what: str
    hint: str
    rule: str = ""
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.place
        where = f"{place.file}:{place.line}:{place.column}: " if place.line else ""
        return f"{where}{self.code}: {self.what}\n  {self.hint}"
