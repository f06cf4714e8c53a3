"""`inspect=` and `inspection:`: which signatures a flow is inspected with, at which end, and what an overload means."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, policies
from tests.unit.policy.test_limits import ACME, DB, SHOP, WEB, decided

from hostward.errors import PolicyError
from hostward.model.inspection import UNINSPECTED, Inspection
from hostward.policy import Numbers, compile_policy
from hostward.policy.document import Overload
from hostward.policy.formatting import format_policy


def within(rules: str, *, head: str = "") -> tuple[Inspection, Inspection]:
    """What the two ends inspect of web to db, of one tenant."""
    found = decided(ACME + head + f"rules: [{rules}]\n", source="acme/w", destination="acme/d")
    return found.at_source, found.at_destination


def test_within_a_tenant_the_end_that_is_opened_to_inspects() -> None:
    assert within("allow web to db on tcp/443 inspect=strict") == (UNINSPECTED, Inspection(("strict",)))


def test_without_the_option_nothing_is_inspected() -> None:
    assert within("allow web to db on tcp/443") == (UNINSPECTED, UNINSPECTED)


def test_every_profile_of_rules_that_allow_the_same_applies() -> None:
    rules = "allow web to db on tcp/443 inspect=b, allow own to db inspect=a, allow web to own on tcp/443"
    assert within(rules.replace(", allow", "', 'allow").join("''"))[1] == Inspection(("a", "b"))


def test_fail_closed_is_the_tenants_choice() -> None:
    rule = "allow web to db on tcp/443 inspect=strict"
    assert within(rule, head="inspection: fail-closed\n")[1] == Inspection(("strict",), fail_closed=True)
    assert within(rule, head="inspection: fail-open\n")[1] == Inspection(("strict",))


def test_each_tenant_inspects_at_its_own_end() -> None:
    acme = ACME + "rules: [allow tenant shop/api to db on tcp/443 inspect=a]\n"
    shop = SHOP + "inspection: fail-closed\nrules: [allow api to tenant acme/db on tcp/443 inspect=s]\n"
    found = decided(acme, shop, source="shop/a", destination="acme/d")
    assert (found.at_source, found.at_destination) == (Inspection(("s",), fail_closed=True), Inspection(("a",)))
    found = decided(acme, shop.replace(" inspect=s", ""), source="shop/a", destination="acme/d")
    assert (found.at_source, found.at_destination) == (UNINSPECTED, Inspection(("a",)))


def test_the_platforms_rule_inspects_for_every_tenant_and_by_its_own_choice() -> None:
    platform = "platform: {inspection: fail-closed, rules: [allow any to any on tcp/443 inspect=all]}\n"
    found = decided(platform, ACME, source="acme/w", destination="acme/d")
    assert (found.at_source, found.at_destination) == (UNINSPECTED, Inspection(("all",), fail_closed=True))


def test_what_was_audited_is_not_inspected() -> None:
    found = decided(
        ACME + "rules: [allow web to db on tcp/443 inspect=a, deny web to db audit]\n",
        source="acme/w",
        destination="acme/d",
    )
    assert (found.verdict, found.at_destination) == ("would-deny", UNINSPECTED)


def test_a_decision_that_inspects_has_a_number_of_its_own() -> None:
    """Otherwise a host that holds the other one would go on with it."""
    numbers, held = Numbers.empty(), set()
    for head, option in (("", ""), ("", "inspect=a"), ("", "inspect=b"), ("inspection: fail-closed\n", "inspect=a")):
        policy = policies(ACME + head + f"rules: [r: allow web to db on tcp/443 {option}]\n")
        found = compile_policy(policy, [WEB, DB], numbers, NOW)
        held |= {d.number for d in found.slice_for("h1", 1).decisions.values() if d.verdict == "allow"}
        numbers = found.numbers
    assert len(held) == 4


@pytest.mark.parametrize("value", ["open", "[fail-open]", "{a: b}", "''"])
def test_a_word_that_is_none_is_refused_with_its_place(value: str) -> None:
    with pytest.raises(PolicyError, match="inspection is 'fail-open' or 'fail-closed'"):
        policies(ACME + f"inspection: {value}\nrules: [allow web to db]\n")


def test_the_choice_survives_formatting() -> None:
    text = ACME + "inspection:   fail-closed\nrules: [allow web to db inspect=a]\n"
    formatted = format_policy("p.yaml", text.encode())
    assert "inspection: fail-closed" in formatted
    assert policies(formatted).tenants["acme"].overload is Overload.FAIL_CLOSED
