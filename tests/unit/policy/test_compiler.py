"""What the compiler promises beyond verdicts, which tests/property compares with the oracle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.errors import CapacityError, ConflictError
from hostward.model.slice import IDENTITY_INTERNET, IDENTITY_UNKNOWN
from hostward.policy import Numbers, compile_policy, unsupported

ACME = "tenant: acme\ngroups: {web: role=web, db: role=db}\n"
WEB = endpoint("acme/w1", "10.0.0.1", role="web")
DB = endpoint("acme/d1", "10.0.0.2", host="h2", role="db")


def compiled(text: str, *endpoints, numbers: Numbers | None = None, now: datetime = NOW):
    return compile_policy(policies(*text.split("---\n")), endpoints, numbers or Numbers.empty(), now)


def test_labels_that_no_rule_uses_make_no_identity() -> None:
    numbers = compiled(
        ACME + "rules: [allow web to db]\n",
        WEB,
        endpoint("acme/w2", "10.0.0.3", role="web", colour="blue"),
        endpoint("acme/x", "10.0.0.4", role="idle"),
        endpoint("acme/y", "10.0.0.5"),
    ).numbers
    assert len(numbers.identities) == 2


def test_numbers_stay_and_are_never_given_again() -> None:
    first = compiled(ACME + "rules: [allow web to db]\n", WEB, DB)
    first.slice_for("h1", 1)
    kept = Numbers.from_plain(first.numbers.to_plain())
    second = compiled(ACME + "rules: [allow web to db, deny any to web]\n", WEB, DB, numbers=kept)
    second.slice_for("h1", 2)
    assert first.numbers.identities.items() <= second.numbers.identities.items()
    assert first.numbers.decisions.items() <= second.numbers.decisions.items()
    assert len(set(second.numbers.decisions.values())) == len(second.numbers.decisions)


def test_the_same_policy_gives_the_same_slice() -> None:
    text = ACME + "rules: [allow web to db on tcp/1, deny any to web on udp]\n"
    first = compiled(text, WEB, DB)
    slice_ = first.slice_for("h1", 1)
    assert compiled(text, WEB, DB, numbers=first.numbers).slice_for("h1", 1) == slice_


def test_a_host_learns_its_tenants_peers_alone() -> None:
    other = endpoint("beta/b", "10.0.0.9", host="h3")
    slice_ = compiled(ACME + "rules: [allow web to db]\n---\ntenant: beta\nrules: [allow own to own]\n", WEB, DB, other)
    known = {prefix for _, prefix in slice_.slice_for("h1", 1).addresses}
    assert {"10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/8", "0.0.0.0/0", "::/0"} <= known
    assert "10.0.0.9/32" not in known
    assert slice_.slice_for("h4", 1).addresses == {}


def test_the_base_of_every_network() -> None:
    slice_ = compiled(ACME, WEB).slice_for("h1", 1)
    assert slice_.addresses[0, "0.0.0.0/0"] == slice_.addresses[0, "::/0"] == IDENTITY_INTERNET
    assert slice_.addresses[0, "10.0.0.0/8"] == IDENTITY_UNKNOWN


def test_the_next_change_is_the_first_end_ahead() -> None:
    text = ACME + "rules: [allow web to db until 2026-12-01T00:00Z, deny any to db until 2026-11-30T00:00Z]\n"
    end = datetime(2026, 11, 30, tzinfo=UTC)
    assert compiled(text, WEB).next_change == end
    assert compiled(text, WEB, now=end).next_change == end + timedelta(days=1)
    assert compiled(text, WEB, now=end + timedelta(days=1)).next_change is None


def test_too_many_cuts_name_the_tenant() -> None:
    rules = "".join(f"  - allow web to db on tcp/{port}\n" for port in range(1, 1_100, 2))
    with pytest.raises(CapacityError, match="acme"):
        compiled(ACME + "rules:\n" + rules, WEB, DB).slice_for("h1", 1)


@pytest.mark.parametrize("address", ["192.0.2.1", "fe80::1"])
def test_an_address_outside_the_pools_is_refused(address: str) -> None:
    with pytest.raises(ConflictError, match="acme/w1"):
        compiled(ACME, endpoint("acme/w1", address))


def test_an_address_belongs_to_one_endpoint_of_a_network() -> None:
    with pytest.raises(ConflictError, match="acme/w1"):
        compiled(ACME, WEB, endpoint("acme/w2", "10.0.0.1"))


@pytest.mark.parametrize(
    ("rules", "verdict", "reject"),
    [
        ("[deny web to db reject]", "deny", True),
        ("[deny web to db]", "deny", False),
        ("[deny web to db reject audit, allow web to db]", "would-deny", False),
        ("[allow web to db]", "allow", False),
    ],
)
def test_a_decision_rejects_iff_the_denial_that_decides_does(rules: str, verdict: str, reject: bool) -> None:
    slice_ = compiled(ACME + f"rules: {rules}\n", WEB, DB).slice_for("h1", 1)
    asked = [decision for decision in slice_.decisions.values() if decision.rules != ("acme/default-deny",)]
    assert [(decision.verdict, decision.reject) for decision in asked] == [(verdict, reject)]


def test_a_denial_that_rejects_has_a_number_of_its_own() -> None:
    found = set()
    numbers = Numbers.empty()
    for option in ("", " reject"):
        text = ACME + f"rules: [no: deny web to db{option}]\n"
        result = compile_policy(policies(text), [WEB, DB], numbers, NOW)
        decisions = result.slice_for("h1", 1).decisions
        numbers = result.numbers
        found |= {decision.number for decision in decisions.values() if "acme/no" in decision.rules}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ('allow web to db by process "bin/nginx"', "bin/nginx"),
        ('allow web to db by process "/srv/../nginx"', "/srv/../nginx"),
        ('allow web to db at process "bin/nginx"', "bin/nginx"),
    ],
)
def test_what_is_not_enforced_is_refused_by_name(rule: str, word: str) -> None:
    (problem,) = unsupported(policies(ACME + f"rules:\n  - {rule}\n"))
    assert word in problem.message
    assert problem.line == 4


def test_a_group_in_nobodys_way_is_supported() -> None:
    assert unsupported(policies(ACME + "rules: [allow web to db on esp, deny any to own on sctp audit log]\n")) == ()


def test_too_many_identities_name_the_groups_that_make_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostward.policy.subjects.MAX_IDENTITIES", 3)
    text = "tenant: acme\ngroups: {a: a=1, b: b=1, c: c=1}\nrules: [allow a to b, allow b to c]\n"
    ends = [
        endpoint(f"acme/e{number}", f"10.0.0.{number + 1}", a=str(number & 1), b=str(number >> 1 & 1), c="1")
        for number in range(3)
    ]
    whole = compiled(text, *ends)
    another = endpoint("acme/e3", "10.0.0.9", a="1", b="1", c="1")
    with pytest.raises(CapacityError, match="acme") as refused:
        whole.with_endpoints({another.id: another})
    assert "c" in refused.value.hint
    # What nobody is any more does not count.
    assert len(whole.with_endpoints({ends[0].id: None}).with_endpoints({another.id: another}).endpoints) == 3


def test_a_tenant_without_a_file_is_the_platforms_own_too() -> None:
    text = "platform:\n  networks: {default: {pools: [10.0.0.0/8]}}\n  baseline: [allow own to own on tcp/80]\n"
    first = compiled(text, endpoint("one/a", "10.0.0.1"))
    newcomers = [endpoint("two/a", "10.0.0.2"), endpoint("two/b", "10.0.0.3")]
    second = first.with_endpoints({e.id: e for e in newcomers})
    a, b = (second.of_address["default", e.addresses[0]][1] for e in newcomers)
    classes = second.classes_for(frozenset({"two"}))
    assert second.outcome(a, b, classes.class_set.class_of(6, 80), classes).verdict == "allow"
