"""What the language has and Hostward cannot enforce: refused by name, never ignored."""

from __future__ import annotations

from hostward.errors import Problem
from hostward.policy.document import PolicySet
from hostward.policy.processes import TELLABLE, is_tellable
from hostward.policy.subjects import every_rule
from hostward.policy.syntax import Rule


def unsupported(policies: PolicySet) -> tuple[Problem, ...]:
    """Every rule that asks for what cannot be enforced; ``apply`` refuses a policy that has any."""
    found: list[Problem] = []
    for policy in (policies.platform, *policies.tenants.values()):
        for rule in every_rule(policy) if policy else ():
            found += _of_rule(rule)
    return tuple(found)


def _of_rule(rule: Rule) -> list[Problem]:
    place = rule.place
    return [
        Problem(
            place.file, place.line, place.column, f"no process can be told by the executable {executable!r}", TELLABLE
        )
        for executable in (*rule.options.by_process, *rule.options.at_process)
        if not is_tellable(executable)
    ]
