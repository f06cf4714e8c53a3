"""`guard:` of tenants and of the platform: every form, every mistake, and which of the two holds."""

from __future__ import annotations

import re

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.errors import PolicyError, Problem
from hostward.model.guard import DEFAULT_GUARD, DEFAULT_THRESHOLDS, Guard, GuardKind, Response, Watch
from hostward.policy import Numbers, compile_policy, parse_sources
from hostward.policy.guards import MOST, guard_of, parse_watch, watch_text

HORIZONTAL, VERTICAL, SYN_FLOOD, SPOOF = GuardKind
WEB, API = endpoint("acme/web", "10.0.0.1"), endpoint("shop/api", "10.0.0.2")


@pytest.mark.parametrize("kind", list(GuardKind))
@pytest.mark.parametrize("response", list(Response))
def test_a_response_alone_has_the_kinds_own_threshold(kind: GuardKind, response: Response) -> None:
    assert parse_watch(kind, response.value) == Watch(response, DEFAULT_THRESHOLDS[kind])
    assert watch_text(kind, parse_watch(kind, response.value)) == response.value


@pytest.mark.parametrize("kind", list(GuardKind))
@pytest.mark.parametrize("response", [r for r in Response if r is not Response.IGNORE])
def test_a_threshold_is_from_1_to_what_can_be_told_apart(kind: GuardKind, response: Response) -> None:
    for above in (1, 7, MOST[kind]):
        text = f"{response.value} above {above}"
        assert parse_watch(kind, text) == Watch(response, above)
        assert watch_text(kind, parse_watch(kind, text)) == text
    # The shortest way to write it.
    assert watch_text(kind, Watch(response, DEFAULT_THRESHOLDS[kind])) == response.value


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", "'' is no response", "write ignore, alert, throttle, quarantine, or e.g. throttle above 200"),
        ("above 7", "'above 7' is no response", "write ignore,"),
        ("block", "'block' is no response", "write ignore,"),
        ("throtle", "'throtle' is no response", "did you mean 'throttle'?"),
        ("quarantined above 7", "'quarantined above 7' is no response", "did you mean 'quarantine'?"),
        ("Alert", "'Alert' is no response", "did you mean 'alert'?"),
        ("throttle above", "'throttle above' is no response", "did you mean 'throttle'?"),
        ("throttle above 0", "'throttle above 0' is no response", "did you mean 'throttle'?"),
        ("throttle above 07", "'throttle above 07' is no response", "did you mean 'throttle'?"),
        ("throttle above -1", "'throttle above -1' is no response", "did you mean 'throttle'?"),
        ("throttle above 1.5", "'throttle above 1.5' is no response", "did you mean 'throttle'?"),
        ("throttle above 1000000", "'throttle above 1000000' is no response", "did you mean 'throttle'?"),
        ("throttle  above 7", "'throttle  above 7' is no response", "did you mean 'throttle'?"),
        ("throttle above 7 ", "'throttle above 7 ' is no response", "did you mean 'throttle'?"),
        ("x" * 100, f"'{'x' * 64}' is no response", "write ignore,"),
        ("ignore above 7", "what is ignored has no threshold", "write ignore"),
        ("alert above 501", "vertical-scan is recognised above at most 500", "write a lower number"),
    ],
)
def test_what_is_no_response_is_refused_with_what_was_meant(text: str, what: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(what)}\n{re.escape(hint)}"):
        parse_watch(VERTICAL, text)


@pytest.mark.parametrize("kind", list(GuardKind))
def test_more_than_can_be_told_apart_is_refused(kind: GuardKind) -> None:
    with pytest.raises(ValueError, match=f"{kind.value} is recognised above at most {MOST[kind]:,}"):
        parse_watch(kind, f"alert above {MOST[kind] + 1}")


def problem(text: str) -> Problem:
    with pytest.raises(PolicyError) as caught:
        parse_sources([("a.yaml", text.encode())])
    return caught.value.problems[0]


@pytest.mark.parametrize(("head", "indent", "line"), [("tenant: acme\n", "", 2), ("platform:\n", "  ", 2)])
@pytest.mark.parametrize(
    ("text", "column", "what", "hint"),
    [
        ("guard: throttle", 8, "a guard is a mapping of kinds to responses", "write e.g. {horizontal-scan: throttle}"),
        ("guard: [spoof]", 8, "a guard is a mapping of kinds to responses", "write e.g. {horizontal-scan: throttle}"),
        ("guard: {spof: alert}", 9, "'spof' is nothing that a guard recognises", "did you mean 'spoof'?"),
        (
            "guard: {ddos: alert}",
            9,
            "'ddos' is nothing that a guard recognises",
            "the kinds are horizontal-scan, vertical-scan, syn-flood, spoof",
        ),
        ("guard: {spoof: alrt}", 16, "'alrt' is no response", "did you mean 'alert'?"),
        ("guard: {spoof: [alert]}", 16, "'' is no response", "write ignore,"),
        ("guard: {spoof: ignore above 9}", 16, "what is ignored has no threshold", "write ignore"),
        (
            "guard: {syn-flood: alert above 100001}",
            20,
            "syn-flood is recognised above at most 100,000",
            "write a lower",
        ),
    ],
)
def test_a_mistake_is_refused_at_its_place(
    head: str, indent: str, line: int, text: str, column: int, what: str, hint: str
) -> None:
    found = problem(f"{head}{indent}{text}\n")
    assert (found.line, found.column, found.message) == (line, column + len(indent), what)
    assert found.hint.startswith(hint)


@pytest.mark.parametrize(
    ("platform", "tenant", "held"),
    [
        (None, None, Watch(Response.ALERT, 10)),
        (Watch(Response.THROTTLE, 50), None, Watch(Response.THROTTLE, 50)),
        (None, Watch(Response.IGNORE, 10), Watch(Response.IGNORE, 10)),
        # The stricter response and the lower threshold, whoever says them.
        (Watch(Response.ALERT, 50), Watch(Response.QUARANTINE, 90), Watch(Response.QUARANTINE, 50)),
        (Watch(Response.QUARANTINE, 90), Watch(Response.ALERT, 50), Watch(Response.QUARANTINE, 50)),
        (Watch(Response.THROTTLE, 7), Watch(Response.THROTTLE, 8), Watch(Response.THROTTLE, 7)),
        # Who ignores it has no say in when it is recognised.
        (Watch(Response.THROTTLE, 90), Watch(Response.IGNORE, 10), Watch(Response.THROTTLE, 90)),
        (Watch(Response.IGNORE, 10), Watch(Response.THROTTLE, 90), Watch(Response.THROTTLE, 90)),
        (Watch(Response.IGNORE, 10), Watch(Response.IGNORE, 10), Watch(Response.IGNORE, 10)),
    ],
)
def test_the_stricter_of_platform_and_tenant_holds(platform: Watch | None, tenant: Watch | None, held: Watch) -> None:
    found = guard_of(
        {} if platform is None else {SPOOF: platform},
        {} if tenant is None else {SPOOF: tenant},
    )
    assert found == (*DEFAULT_GUARD[:3], held)


def guards(*texts: str) -> dict[str, Guard]:
    """Of the endpoints in the slice of their host."""
    found = compile_policy(policies(*texts), [WEB, API], Numbers.empty(), NOW).slice_for("h1", 1)
    return {name: one.guard for name, one in found.endpoints.items()}


def test_what_holds_for_a_tenant_is_its_endpoints() -> None:
    assert guards() == {"acme/web": DEFAULT_GUARD, "shop/api": DEFAULT_GUARD}
    found = guards(
        "platform:\n  guard: {spoof: quarantine, vertical-scan: alert above 50}\n",
        "tenant: acme\nguard: {spoof: ignore, syn-flood: throttle above 900, vertical-scan: throttle}\n",
    )
    scan, spoof = DEFAULT_GUARD[0], Watch(Response.QUARANTINE, 10)
    assert found["acme/web"] == (scan, Watch(Response.THROTTLE, 50), Watch(Response.THROTTLE, 900), spoof)
    assert found["shop/api"] == (scan, Watch(Response.ALERT, 50), DEFAULT_GUARD[2], spoof)
