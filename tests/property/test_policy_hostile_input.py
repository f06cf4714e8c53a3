"""Whatever bytes a policy file holds, parsing answers with a policy or with PolicyError, and says where."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.errors import PolicyError, Problem
from hostward.policy import parse_sources
from tests.property.strategies import tenant_texts

EXAMPLES = settings(max_examples=300, deadline=None)

_fragments = st.sampled_from(
    [
        "tenant: a\n",
        "platform:\n",
        "rules:\n",
        "groups:\n",
        "  - ",
        "  web: ",
        "role=web",
        "allow any to any",
        " on tcp/80",
        "services: ",
        "exports: ",
        "assertions:\n",
        "---\n",
        "...\n",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "\n",
        "\t",
        "'",
        '"',
        "\\",
        "&a",
        "*a",
        "!!str ",
        "!x ",
        "%YAML 1.1\n",
        "? ",
        "| ",
        ">-\n",
        "~",
        "null",
        "#",
        "<<: ",
        "\\UFFFFFFFF",
        "\x00",
        "\x85",
        "\u2028",
        "10.0.0.0/8",
        "::/0",
        "in (a, b)",
        "not ",
        "(",
        ")",
        "networks: ",
        "pools: ",
        "0x10",
        "1e999",
        "on",
        "é",
    ]
)


def _check(content: bytes) -> None:
    for problem in _mistakes(content):
        assert problem.file == "hostile.yaml"
        assert problem.message
        assert (problem.line == 0) == (problem.column == 0)
        assert str(problem)


def _mistakes(content: bytes) -> tuple[Problem, ...]:
    try:
        parse_sources([("hostile.yaml", content)])
    except PolicyError as error:
        return error.problems
    return ()


@given(st.binary(max_size=400))
@EXAMPLES
def test_bytes(content: bytes) -> None:
    _check(content)


@given(st.text(max_size=400))
@EXAMPLES
def test_text(content: str) -> None:
    _check(content.encode("utf-8", "surrogatepass"))


@given(st.lists(_fragments, max_size=30).map("".join))
@EXAMPLES
def test_pieces_of_policies(content: str) -> None:
    _check(content.encode())


@given(tenant_texts("acme"), st.integers(0, 10_000), _fragments, st.integers(0, 5))
@EXAMPLES
def test_a_policy_with_a_mistake(text: str, place: int, fragment: str, removed: int) -> None:
    at = place % (len(text) + 1)
    _check((text[:at] + fragment + text[at + removed :]).encode())


@given(tenant_texts("acme"))
@EXAMPLES
def test_the_kept_source_gives_the_policy_again(text: str) -> None:
    policies = parse_sources([("acme.yaml", text.encode())])
    again = parse_sources([("acme.yaml", policies.tenants["acme"].source.encode())])
    assert again == policies
