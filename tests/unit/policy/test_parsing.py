"""Mistakes in policy files: each is found, with its place and what to do."""

from __future__ import annotations

import pytest

from hostward.errors import PolicyError
from hostward.policy import parse_sources

HEAD = "tenant: acme\ngroups: {web: role=web, db: role=db}\n"


def problems(*texts: str):
    with pytest.raises(PolicyError) as caught:
        parse_sources([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        (HEAD + "rules:\n  - allow wbe to db\n", 4, 11, "'wbe' 'web'"),
        (HEAD + "rules:\n  - allow web to db on tcp/70000\n", 4, 28, "70000 65535"),
        (HEAD + "rules:\n  - x: alow web to db\n", 4, 8, "'alow' 'allow'"),
        (HEAD + "rules:\n  - 'allow web to 10.0.0.1/8'\n", 4, 19, "'10.0.0.1/8' 10.0.0.0/8"),
        (HEAD + "rules:\n  - allow web to db on postgres\n", 4, 24, "'postgres' service"),
        (HEAD + "rules:\n  - x: allow web to db\n  - x: deny web to db\n", 5, 8, "'x' 4"),
        (HEAD + "rules:\n  - allow web to db\n  - allow web to db log\n", 5, 5, "line 4"),
        (HEAD + "rules:\n  - deny 2001:db8:: to web\n", 4, 5, "quote"),
        (HEAD + "rules: [allow web to db on tcp/1, tcp/2]\n", 3, 35, "'tcp/2' allow"),
        (HEAD + "rules:\n", 3, 1, "'rules' null"),
        (HEAD + "mode: audti\n", 3, 7, "enforce audit"),
        (HEAD + "exports: [wbe]\n", 3, 11, "'wbe' 'web'"),
        (HEAD + "ruels: []\n", 3, 1, "'ruels' 'rules'"),
        (HEAD + "groups: {}\n", 3, 1, "'groups' twice"),
        (HEAD + "assertions: [allow web to db]\n", 3, 14, "never always"),
        ("tenant: acme\ngroups:\n  web: role=web, x\n", 3, 16, "','"),
        ("tenant: acme\ngroups: {web: ns in (a, b)}\n", 2, 25, "quotes"),
        ("tenant: acme\ngroups:\n  a: group b\n  b: not group a\n", 4, 6, "itself a"),
        ("tenant: acme\ngroups: {a: group c, b: x=y}\n", 2, 13, "'c'"),
        ("tenant: acme\ngroups: {net: [10.0.0.0/33]}\n", 2, 16, "10.0.0.0/33"),
        ("tenant: acme\ngroups: {any: role=x}\n", 2, 10, "'any'"),
        ("tenant: platform\n", 1, 1, "platform"),
        ("tenant: {}\n", 1, 9, "tenant"),
        ("platform: {networks: {n: {pools: [10.0.0.0/8, 10.1.0.0/16]}}}\n", 1, 34, "10.0.0.0/8 10.1.0.0/16 overlap"),
        ("platform: {networks: {n: {}}}\n", 1, 26, "pools"),
        ("platform: {networks: {n: {pools: [10.0.0.0/8], dhcp: [10.0.0.0/24]}}}\n", 1, 54, "10.0.0.0/24"),
        ("platform: {networks: {n: {pools: [10.0.0.0/8], dhcp: [a]}}}\n", 1, 55, "'a'"),
        ("platform: {networks: {n: {pools: [10.0.0.0/8], dhcd: [10.0.0.7]}}}\n", 1, 48, "'dhcp'"),
        (f"platform: {{networks: {{n: {{pools: [::/8], dhcp: {[f'::{n}' for n in range(9)]}}}}}}}\n", 1, 48, "at most 8"),
        ("- tenant\n", 1, 1, "mapping"),
        ("tenat: acme\n", 1, 1, "'tenant'"),
        ("tenant: acme\ngroups: {a: b=c", 2, 16, "YAML"),
        ("tenant: &a acme\nrules: [*a]\n", 1, 9, "alias"),
        ("tenant: acme\x00\n", 0, 0, "YAML"),
        ("tenant: acme\nrules: [" + "x," * 3_000 + "]\n", 2, 4_097, "6,009 4,096"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_and_says_what_to_do(text: str, line: int, column: int, words: str) -> None:
    found = problems(text)
    places = [(problem.line, problem.column) for problem in found]
    assert (line, column) in places, list(map(str, found))
    said = str(found[places.index((line, column))])
    for word in words.split():
        assert word in said


def test_every_mistake_is_reported_in_the_order_of_the_file() -> None:
    found = problems(HEAD + "rules:\n  - alow web to db\n  - allow wbe to db\nservices: {pg: tcp/99999}\nmode: x\n")
    assert [problem.line for problem in found] == [4, 5, 6, 7]


def test_a_tenant_in_two_files() -> None:
    (problem,) = problems("tenant: acme\n", "tenant: acme\n")
    assert problem.file == "1.yaml"
    assert "0.yaml" in str(problem)


def test_two_platforms() -> None:
    (problem,) = problems("platform: {rules: []}\n", "platform: {rules: []}\n")
    assert "0.yaml" in str(problem)


def test_a_file_that_is_too_large_is_not_read() -> None:
    (problem,) = problems("x" * (10 << 20))
    assert "10,485,760" in problem.message


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_sources([("a.yaml", b"tenant: acme\n# caf\xe9\n")])
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (2, 6)


def test_groups_that_double_each_other_are_refused() -> None:
    groups = "".join(f"  g{n}: group g{n + 1} and group g{n + 1}\n" for n in range(40))
    assert any("facts" in problem.message for problem in problems(f"tenant: acme\ngroups:\n{groups}  g40: a=b\n"))


def test_a_chain_of_groups_has_an_end() -> None:
    groups = "".join(f"  g{n}: group g{n + 1}\n" for n in range(3_000))
    assert any("deeper" in problem.message for problem in problems(f"tenant: acme\ngroups:\n{groups}  g3000: a=b\n"))


def rule_id(line: str) -> str:
    policies = parse_sources([("a.yaml", f"{HEAD}services: {{pg: tcp/5432}}\nrules:\n  - {line}\n".encode())])
    return policies.tenants["acme"].rules[0].id


def test_an_unnamed_rule_keeps_its_id_while_options_are_edited() -> None:
    assert rule_id("deny web to db on pg") == rule_id("deny web to db on tcp/5432 log audit")
    assert rule_id("deny web, db to own on tcp/1, udp/2") == rule_id("deny db, web to own on udp/2, tcp/1")
    others = ["allow web to db on pg", "deny db to web on pg", "deny web to db", "deny web to db on udp/5432"]
    assert len({rule_id(line) for line in ["deny web to db on pg", *others]}) == 5


def test_documents_of_one_file_keep_their_own_source() -> None:
    policies = parse_sources([("all.yaml", b"# both\ntenant: a\n---\ntenant: b\ngroups: {x: y=z}\n")])
    for name, policy in policies.tenants.items():
        assert (
            parse_sources([("again.yaml", policy.source.encode())]).tenants[name].groups.keys() == policy.groups.keys()
        )
