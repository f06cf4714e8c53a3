"""The canonical form, case by case; tests/property shows that it changes no meaning."""

from __future__ import annotations

import pytest

from hostward.errors import PolicyError
from hostward.policy.canonical import canonical_expression, canonical_rule
from hostward.policy.formatting import format_policy, quoted


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("allow  web,app to db on tcp/080 , pg", "allow web, app to db on tcp/80, pg"),
        ("deny any except 10.0.0.1/32 to 2001:DB8:0::/48", "deny any except 10.0.0.1 to 2001:db8::/48"),
        ("deny any to web log audit", "deny any to web audit log"),
        (
            "allow any to web until 2026-12-01T00:00Z log limit=2Gbit/s inspect=strict at process nginx keep",
            "allow any to web at process nginx inspect=strict limit=2Gbit/s keep log until 2026-12-01T00:00Z",
        ),
        ('allow a to b by process "/bin/a", "/my dir/b"', 'allow a to b by process /bin/a, "/my dir/b"'),
        ("allow a to tenant t / * on tcp/7-7, icmp/echo-request", "allow a to tenant t/* on tcp/7, icmp/echo-request"),
    ],
)
def test_a_rule_has_one_form(written: str, canonical: str) -> None:
    assert canonical_rule(written) == canonical
    assert canonical_rule(canonical) == canonical


def test_an_expression_keeps_its_parentheses() -> None:
    assert canonical_expression("( a = b )and not(c in(d,e)  or has f)") == "(a=b) and not (c in (d, e) or has f)"


@pytest.mark.parametrize(
    ("text", "block", "flow"),
    [
        ("allow a to b", "allow a to b", "allow a to b"),
        ("allow a, b to c", "allow a, b to c", "'allow a, b to c'"),
        ("fd00::/8", "fd00::/8", "fd00::/8"),
        ("::/0", "'::/0'", "'::/0'"),
        ("null", "'null'", "'null'"),
        ("allow 2001:: to b", "'allow 2001:: to b'", "'allow 2001:: to b'"),
        ("a # b", "'a # b'", "'a # b'"),
        ("it's: so", "'it''s: so'", "'it''s: so'"),
        ('a\u2028\n"b', '"a\\U00002028\\U0000000a\\"b"', '"a\\U00002028\\U0000000a\\"b"'),
    ],
)
def test_quotes_stand_only_where_they_must(text: str, block: str, flow: str) -> None:
    assert quoted(text) == block
    assert quoted(text, flow=True) == flow


def test_comments_stay_with_what_they_are_about() -> None:
    text = """\
# About the file.

rules:
# the shop
- allow web to db  # beside
- # before a name
  x: allow db to web


# of the rules' end

tenant: acme  # who
exports: [web, # first
  db]
groups: {web: role=web, db: role=db}
---
platform:
      internal: 192.168.0.0/16
      # inside
# outside
"""
    assert (
        format_policy("a.yaml", text.encode())
        == """\
# About the file.

# of the rules' end

tenant: acme  # who
groups:
  web: role=web
  db: role=db
exports:
  - web  # first
  - db
rules:
  # the shop
  - allow web to db  # beside
  # before a name
  - x: allow db to web
---
platform:
  internal: [192.168.0.0/16]
  # inside
# outside
"""
    )


def test_a_long_list_goes_one_to_a_line() -> None:
    prefixes = [f"10.0.{number}.0/24" for number in range(12)]
    text = f"tenant: acme\ngroups:\n  net: [{', '.join(prefixes)}]\n"
    assert "  net:\n    - 10.0.0.0/24\n" in format_policy("a.yaml", text.encode())


def test_a_file_that_would_outgrow_the_longest_line_is_left_alone() -> None:
    rule = "n" * 63
    names = " ".join(f"web{number}," for number in range(520))
    groups = "".join(f"  web{number}: a=b\n" for number in range(520))
    text = f"tenant: acme\ngroups:\n{groups}rules:\n- {rule}:\n    allow {names}\n    web1 to any\n"
    with pytest.raises(PolicyError) as caught:
        format_policy("a.yaml", text.encode())
    assert "4,096" in str(caught.value)
