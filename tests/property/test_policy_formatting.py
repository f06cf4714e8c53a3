"""Formatting changes no meaning, loses no comment and ends: whatever the layout was."""

from __future__ import annotations

from hypothesis import given, settings

from hostward.policy import PolicySet, parse_sources
from hostward.policy.formatting import format_policy
from tests.property.layouts import laid_out_files


def meaning(policies: PolicySet) -> object:
    """What a policy says, field by field, apart from where and how it is written."""
    policy_of = {"": policies.platform, **policies.tenants}
    return {
        name: policy
        and (
            policy.name,
            policy.mode,
            {key: (group.expression, group.prefixes) for key, group in policy.groups.items()},
            list(policy.services.items()),
            policy.exports,
            [
                (rule.id, rule.action, rule.source, rule.destination, rule.ports, rule.options)
                for rule in (*policy.rules, *getattr(policy, "baseline", ()))
            ],
            [(line.always, line.source, line.destination, line.ports) for line in policy.assertions],
            getattr(policy, "networks", None),
            getattr(policy, "dhcp", None),
            getattr(policy, "internal", None),
            getattr(policy, "shares", None),
        )
        for name, policy in policy_of.items()
    }


@settings(max_examples=100, deadline=None)
@given(laid_out_files())
def test_formatting_keeps_meaning_and_comments_and_is_done_at_once(page: tuple[str, list[str]]) -> None:
    text, comments = page
    formatted = format_policy("a.yaml", text.encode())
    assert meaning(parse_sources([("a.yaml", formatted.encode())])) == meaning(
        parse_sources([("a.yaml", text.encode())])
    )
    lines = formatted.splitlines()
    for comment in comments:
        assert sum(line.endswith(comment) for line in lines) == comments.count(comment), comment
    assert format_policy("a.yaml", formatted.encode()) == formatted
