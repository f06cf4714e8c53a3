"""Lines put into policy files: nothing that was there changes, and what comes out parses."""

from __future__ import annotations

import pytest

from hostward.errors import ConflictError
from hostward.policy import parse_sources
from hostward.policy.insertion import NewRule, insert

RULE = NewRule("allow web to db on tcp/5432", ("seen twice",))
FILES = {
    "block": "# ours\ntenant: acme\ngroups:\n  web: role=web  # the front\nrules:\n  - allow web to own on tcp/1 # why\n\n"
    "# claims\nassertions:\n  - never internet to web\n",
    "named, quoted and folded": "tenant: acme\ngroups:\n  web: role=web\nrules:\n- one: allow web to own\n"
    "- two: 'allow web to own on tcp/2'\n- >-\n  allow web to own\n  on tcp/3\n",
    "literal at the end": "tenant: acme\ngroups: {web: role=web}\nrules:\n  - |-\n    allow web to own on tcp/3",
    "brackets": 'tenant: acme\ngroups: {web: role=web}\nrules: [allow web to own, "allow web to own on tcp/2, udp/2"]\n'
    "mode: audit\n",
    "brackets over lines": "tenant: acme\ngroups: {web: role=web}\nrules: [\n  allow web to own on tcp/1,\n"
    "  {named: allow web to own on tcp/2},\n]\n",
    "empty brackets": "tenant: acme\nrules: []  # nothing yet\ngroups: {web: role=web}\n",
    "no rules": "tenant: acme\ngroups: {web: role=web}",
    "no groups": "tenant: acme\nrules:\n  - allow own to own on tcp/1\n",
    "nothing": "tenant: acme\n",
}


@pytest.mark.parametrize("name", FILES)
def test_new_rules_and_groups_stand_behind_the_old_ones_and_nothing_else_changes(name: str) -> None:
    source = FILES[name]
    before = parse_sources([("a", source.encode())]).tenants["acme"]
    groups = [("db", "role=db")] + ([] if "web" in before.groups else [("web", "role=web")])
    text = insert(source, groups, [RULE])
    after = parse_sources([("a", text.encode())]).tenants["acme"]
    assert [rule.text for rule in after.rules] == [*(" ".join(r.text.split()) for r in before.rules), RULE.text] or [
        rule.text for rule in after.rules
    ] == [*(rule.text for rule in before.rules), RULE.text]
    assert [rule.id for rule in after.rules][:-1] == [rule.id for rule in before.rules]
    assert set(after.groups) == {"web", "db"}
    assert (after.mode, len(after.assertions)) == (before.mode, len(before.assertions))
    assert "# seen twice\n" in text
    comments = [line.partition("#")[2] for line in source.splitlines() if "#" in line]
    assert all(f"#{comment}" in text for comment in comments)


def test_a_block_keeps_every_line() -> None:
    source = FILES["block"]
    text = insert(source, [], [RULE])
    added = "  # seen twice\n  - allow web to db on tcp/5432\n"
    assert text.replace(added, "") == source
    assert text.index(added) == source.index("\n\n# claims") + 1


@pytest.mark.parametrize(
    "source",
    [
        "{tenant: acme, groups: {web: role=web}, rules: [allow web to own]}\n",
        "tenant: acme\ngroups: {web: role=web}\nrules: [\n  allow web to own, # why\n]\n",
    ],
)
def test_a_layout_without_a_place_is_refused_with_what_to_do(source: str) -> None:
    with pytest.raises(ConflictError, match="one key a line"):
        insert(source, [], [RULE])
