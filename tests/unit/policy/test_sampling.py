"""`sampling:` from text to slices: which rate holds for whom, and what is refused."""

from __future__ import annotations

import pytest

from hostward.errors import PolicyError
from hostward.policy import parse_sources
from hostward.policy.formatting import format_policy

GROUPS = "tenant: acme\ngroups: {web: role=web, prod: env=prod, net: [10.0.0.0/8]}\n"
PLATFORM = "platform:\n  groups: {edge: role=web}\n  sampling: {edge: 1/50, any: 1/100000}\n"


def rate_of(sampling: str, platform: str = "", tenant: str = "acme", **labels: str) -> int:
    sources = [("acme.yaml", f"{GROUPS}sampling: {sampling}\n".encode())]
    if platform:
        sources.append(("platform.yaml", platform.encode()))
    return parse_sources(sources).sampling_of(tenant, labels)


def test_the_most_frequent_rate_holds() -> None:
    both = "{web: 1/1000, prod: 1/10, any: 1/50000}"
    assert rate_of("1/1000", role="db") == 1_000
    assert rate_of(both) == 50_000
    assert rate_of(both, role="web") == 1_000
    assert rate_of(both, role="web", env="prod") == 10
    assert rate_of("{web: 1/7}", role="db") == 0


def test_the_platform_s_rates_hold_too() -> None:
    assert rate_of("{prod: 1/10}", PLATFORM, role="web") == 50
    assert rate_of("{prod: 1/10}", PLATFORM, role="web", env="prod") == 10
    assert rate_of("{prod: 1/10}", PLATFORM) == 100_000
    assert rate_of("1/1", PLATFORM, tenant="another", role="web") == 50


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ("1/0", "'1/0' is no sampling rate"),
        ("1/007", "'1/007' is no sampling rate"),
        ("0.01", "'0.01' is no sampling rate"),
        ("1/99999999", "1/99999999 is too sparse"),
        ("[1/10]", "sampling is a rate, or a mapping of groups to rates"),
        ("{wep: 1/10}", "there is no group 'wep'"),
        ("{net: 1/10}", "'net' is a list of prefixes, and what is sampled are endpoints"),
        ("{web: {}}", "'' is no sampling rate"),
    ],
)
def test_what_is_no_rate_is_refused_with_a_hint(sampling: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        rate_of(sampling)
    (problem,) = refused.value.problems
    assert problem.message == message
    assert problem.hint


@pytest.mark.parametrize("sampling", ["1/1000", "{}"])
def test_a_rate_is_formatted_as_it_stands(sampling: str) -> None:
    text = f"tenant: acme\nsampling: {sampling}\n"
    assert format_policy("acme.yaml", text.encode()) == text


def test_rates_of_groups_are_formatted_line_by_line() -> None:
    text = "tenant: acme\ngroups:\n  web: role=web\nsampling:\n  web: 1/10\n  any: 1/1000\n"
    assert (
        format_policy("acme.yaml", b"tenant: acme\nsampling: {web: 1/10, any: 1/1000}\ngroups: {web: role=web}\n")
        == text
    )
