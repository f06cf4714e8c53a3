"""What the language has and this version of Hostward cannot enforce: refused by name, never ignored."""

from __future__ import annotations

from hostward.errors import Problem
from hostward.policy.document import PolicySet
from hostward.policy.processes import TELLABLE, is_tellable
from hostward.policy.subjects import every_rule
from hostward.policy.syntax import Rule

_OPTIONS = {
    "inspect": "'inspect=' is not enforced yet: there is no inspector",
}


def unsupported(policies: PolicySet) -> tuple[Problem, ...]:
    """Every rule that asks for what is not enforced yet; ``apply`` refuses a policy that has any."""
    found: list[Problem] = []
    for policy in (policies.platform, *policies.tenants.values()):
        for rule in every_rule(policy) if policy else ():
            found += _of_rule(rule)
    return tuple(found)


def _of_rule(rule: Rule) -> list[Problem]:
    place = rule.place
    messages = [message for name, message in _OPTIONS.items() if getattr(rule.options, name)]
    hint = f"leave it out of {rule.id}, or check the policy offline with `hostward policy check`"
    found = [Problem(place.file, place.line, place.column, message, hint) for message in messages]
    for executable in (*rule.options.by_process, *rule.options.at_process):
        if not is_tellable(executable):
            message = f"no process can be told by the executable {executable!r}"
            found.append(Problem(place.file, place.line, place.column, message, TELLABLE))
    return found


def is_enforced(option: str) -> bool:
    """Whether the datapath enforces an option, by its field of ``Options``."""
    return option not in _OPTIONS
