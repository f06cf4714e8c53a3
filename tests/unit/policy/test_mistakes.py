"""What newcomers write: each is refused at its place, with what was expected and the form that was meant."""

from __future__ import annotations

import pytest

from hostward.errors import PolicyError, Problem
from hostward.policy import parse_sources

HEAD = "tenant: acme\ngroups: {web: role=web, db: role=db}\nrules:\n"


def problem(text: str) -> Problem:
    with pytest.raises(PolicyError) as caught:
        parse_sources([("a.yaml", text.encode())])
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("rule", "column", "hint"),
    [
        ("permit web to db", 1, "did you mean 'allow'?"),
        ("drop web to db", 1, "did you mean 'deny'?"),
        ("Allow web to db", 1, "did you mean 'allow'?"),
        ("allow web TO db", 11, "did you mean 'to'?"),
        ("never web to db", 1, "a claim stands under 'assertions:'"),
        ("allow web db", 11, "a line reads 'allow A to B on tcp/443'"),
        ("allow web", 10, "a line reads 'allow A to B on tcp/443'"),
        ("allow web -> db", 11, "write 'to' between the two sides"),
        ("allow from web to db", 12, "leave 'from' out"),
        ("allow web to the internet", 18, "leave 'the' out"),
        ("allow web and db to any", 11, "separate them with ','"),
        ("allow web to db,", 17, "leave out the comma at the end"),
        ("allow web to db;", 16, "a line has no ';'"),
        ("allow 'web' to db", 7, "names stand without quotes: web"),
        ("allow group web to db", 13, "a group is named alone: web"),
        ("allow role=web to db", 11, "under 'groups:'"),
        ("allow web to !db", 14, "write 'any except db'"),
        ("allow * to db", 7, "write 'any' for everybody"),
        ("allow all to db", 7, "did you mean 'any'?"),
        ("allow web to world", 14, "did you mean 'internet'?"),
        ("allow web to dbb", 14, "did you mean 'db'?"),
        ("allow web to example.com", 21, "names of machines are not looked up"),
        ("allow web to 10.0.0", 14, "10.0.0.0/24"),
        ("allow web to 10.0.0.1/8", 14, "10.0.0.0/24"),
        ("allow tenant beta api to db", 19, "write 'tenant beta/api'"),
        ("allow tenant beta/ to db", 23, "write 'tenant beta/GROUP' or 'tenant beta/*'"),
        ("allow web to beta/api", 18, "'tenant beta/api'"),
        ("allow web tcp/443 to db", 11, "ports stand at the end"),
        ("allow web to db tcp/443", 17, "write 'on' before ports: 'on tcp/443'"),
        ("allow web to db port 443", 17, "write 'on tcp/443'"),
        ("allow web to db on ports tcp/443", 26, "leave 'ports' out"),
        ("allow web to db on tcp:443", 23, "write 'tcp/443'"),
        ("allow web to db on tcp 443", 24, "write 'tcp/443'"),
        ("allow web to db on 443", 20, "name the protocol: 'tcp/443'"),
        ("allow web to db on TCP/443", 23, "lower case"),
        ("allow web to db on tcps/443", 24, "write 'tcp/443'"),
        ("allow web to db on tcp/https", 24, "write 'tcp/443'"),
        ("allow web to db on http", 20, "http: tcp/80"),
        ("allow web to db on all", 20, "leave 'on' out"),
        ("allow web to db on tcp/80:90", 26, "a range is written 80-90"),
        ("allow web to db on tcp/1024+", 28, "write 'tcp/1024-65535'"),
        ("allow web to db on tcp/*", 24, "write just 'tcp'"),
        ("allow web to db on tcp/80 tcp/443", 27, "separate ports with ','"),
        ("allow web to db on tcp/80 and tcp/443", 27, "separate them with ','"),
        ("allow web to db on icmp/ping", 25, "did you mean 'echo-request'?"),
        ("allow web to db on tcp/1 except db", 26, "before 'on'"),
        ("allow web to db until tomorrow", 23, "until 2026-12-01T00:00Z"),
        ("allow web to db until 2026-12-01", 23, "write '2026-12-01T00:00Z'"),
        ("allow web to db until 2026-12-01T00:00+01:00", 23, "times are UTC"),
        ("allow web to db limit=10Mbps", 23, "write 'limit=10Mbit/s'"),
        ("allow web to db limit=10", 23, "10conn/s"),
        ("allow web to db by nginx", 20, "write 'by process nginx'"),
        ("allow web to db # why", 17, "a comment stands outside of the quotes"),
    ],
)
def test_in_a_rule(rule: str, column: int, hint: str) -> None:
    quoted = rule.replace("'", "''")
    found = problem(f"{HEAD}  - '{quoted}'\n")
    # A quote inside of quotes stands twice in the file.
    assert (found.line, found.column) == (4, column + len("  - '"))
    assert hint in found.hint, str(found)


@pytest.mark.parametrize(
    ("expression", "column", "hint"),
    [
        ("role==web", 6, "write one '='"),
        ("role: web", 5, "write 'role=web'"),
        ("role is web", 6, "write 'role=web'"),
        ("role='web'", 6, "values stand without quotes: web"),
        ("role=web && env=prod", 10, "write 'and' between facts"),
        ("role=web, env=prod", 9, "write 'and' between facts"),
        ("role=web AND env=prod", 10, "did you mean 'and'?"),
        ("role=web env=prod", 10, "write 'and' or 'or' between facts"),
        ("role=web and", 13, "a fact is missing"),
        ("role in [a, b]", 9, "in (a, b)"),
        ("role not in (a, b)", 6, "write 'not role in (…)'"),
        ("role!=group db", 13, "write 'not group db'"),
        ("group web != db", 11, "write 'and not group db'"),
        ("!role", 1, "write 'not has role'"),
        ("role=*", 6, "write 'has role'"),
        ("role", 5, "write 'role=VALUE', or 'has role'"),
        ("10.0.0.0/8", 11, "in brackets: [10.0.0.0/8]"),
        ("group wbe", 1, "did you mean 'web'?"),
    ],
)
def test_in_an_expression(expression: str, column: int, hint: str) -> None:
    quoted = expression.replace("'", "''")
    found = problem(f"tenant: acme\ngroups:\n  web: a=b\n  g: '{quoted}'\n")
    inner = 0 if "no group" in found.message else 1
    assert (found.line, found.column) == (4, column + len("  g: ") + inner)
    assert hint in found.hint, str(found)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("tenant: acme\nrules:\n\t- allow any to any\n", (3, 1), "spaces, not with tabs"),
        ("tenant: acme\nrules:\n  - allow: any to any\n", (3, 5), "one line without a colon"),
        ("tenant: acme\nrules:\n - allow any to any\n  - deny any to any\n", (3, 21), "in the same column"),
        ("tenant: acme\nrules:\n  - allow any to any on tcp/1: log\n", (3, 5), "in quotes"),
        ("tenant: acme\nrules: [allow any to any on tcp/1, tcp/2]\n", (2, 36), "at a comma"),
        ("tenant: acme\nrules:\n  - 'allow any to any\n", (4, 1), "a quote is not closed"),
        ("tenant: acme\nrules:\n  - * to any\n", (3, 6), "write 'any'"),
        ("tenant: acme\ngroups:\n  web: {role: web, env: prod}\n", (3, 8), "write web: role=web and env=prod"),
        ("tenant: acme\ngroups:\n  web: [role=web]\n", (3, 9), "without brackets"),
        ("tenant: acme\ngroups:\n  - web: role=web\n", (3, 3), "without '- '"),
        ("tenant: acme\nservices:\n  pg: 5432\n", (3, 7), "'tcp/5432'"),
        ("tenant: acme\nservices:\n  pg: other\n", (3, 7), "tcp/5432"),
        ("tenant: acme\nbaseline: []\n", (2, 1), "below 'platform:'"),
        ("platform:\n  exports: [a]\n", (2, 3), "a key of a tenant"),
        ("platform: acme\n", (1, 11), "indented"),
        ("tenant: acme\nmode: off\n", (2, 7), "leave it out to enforce"),
        ("tenant: acme\nassertions: [allow any to any]\n", (2, 14), "a rule stands under 'rules:'"),
    ],
)
def test_in_a_file(text: str, place: tuple[int, int], hint: str) -> None:
    found = problem(text)
    assert (found.line, found.column) == place
    assert hint in found.hint, str(found)


def test_what_may_stand_at_a_place_is_named_whole() -> None:
    message = problem(f"{HEAD}  - allow web to db please\n").message
    for word in ("'at'", "'audit'", "'by'", "'keep'", "'log'", "'on'", "'reject'", "'until'", "','"):
        assert word in message
