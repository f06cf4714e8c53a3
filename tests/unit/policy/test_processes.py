"""Process conditions: what both ends' hosts pass between them, for every two processes, against what the rules say."""

from __future__ import annotations

from itertools import product

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.model.slice import Decision, HostSlice
from hostward.policy import Numbers, check, compile_policy, explain

FILE = "tenant: acme\ngroups: {{web: role=web, db: role=db}}\nrules:\n{rules}"
WEB = endpoint("acme/w", "10.0.0.1", "h1", role="web")
DB = endpoint("acme/d", "10.0.0.2", "h2", role="db")
OPENERS = ("/x", "/y", "/other", None)  # None: not known
ACCEPTORS = ("/p", "/q", "/other", None)


def parsed(*rules: str, assertions: str = ""):
    listed = "".join(f"  - r{number}: {rule}\n" for number, rule in enumerate(rules))
    return policies(FILE.format(rules=listed) + (f"assertions: [{assertions}]\n" if assertions else ""))


def seen_by(slice_: HostSlice, direction: str, process: str | None) -> Decision:
    """What a host decides about TCP port 1 between the two endpoints."""
    own, peer = (WEB, DB) if direction == "egress" else (DB, WEB)
    identities = {e.id: slice_.addresses[0, f"{e.addresses[0]}/32"] for e in (own, peer)}
    row = slice_.rows[slice_.tables[identities[own.id], direction][identities[peer.id]]]
    decision = slice_.decisions[row.cells[slice_.class_sets[row.class_set].class_of(6, 1)]]
    judged = decision.opener if direction == "egress" else decision.acceptor
    if judged is None:
        return decision
    named = {path: number for paths, number in judged.named for path in paths}
    return slice_.decisions[judged.unknown if process is None else named.get(process, judged.other)]


def passed(*rules: str) -> set[tuple[str | None, str | None]]:
    """The pairs of processes that both hosts pass."""
    compiled = compile_policy(parsed(*rules), [WEB, DB], Numbers.empty(), NOW)
    here, there = compiled.slice_for("h1", 1), compiled.slice_for("h2", 1)
    return {
        (opener, acceptor)
        for opener, acceptor in product(OPENERS, ACCEPTORS)
        if seen_by(here, "egress", opener).verdict != "deny" and seen_by(there, "ingress", acceptor).verdict != "deny"
    }


ALL = set(product(OPENERS, ACCEPTORS))


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (["allow web to db"], ALL),
        (["allow web to db by process /x"], {(o, a) for o, a in ALL if o == "/x"}),
        (["allow web to db at process /p"], {(o, a) for o, a in ALL if a == "/p"}),
        (["allow web to db by process /x, /y at process /p"], {("/x", "/p"), ("/y", "/p")}),
        (["allow web to db", "deny web to db by process /x"], {(o, a) for o, a in ALL if o not in ("/x", None)}),
        (["allow web to db", "deny web to db at process /p"], {(o, a) for o, a in ALL if a not in ("/p", None)}),
        (["allow web to db by process /x", "allow web to db"], ALL),
        (["allow web to db by process /x", "deny web to db at process /q"], {("/x", "/p"), ("/x", "/other")}),
        # "/x to anybody, and anybody to /q" is no choice that two ends can make apart: the opener's host decides.
        (["allow web to db by process /x", "allow web to db at process /q"], {(o, a) for o, a in ALL if o == "/x"}),
        (["allow web to db by process /x at process /p", "allow web to db by process /y at process /q"], set()),
    ],
)
def test_both_ends_pass_together(rules: list[str], wanted: set[tuple[str | None, str | None]]) -> None:
    assert passed(*rules) == wanted


def test_a_name_is_a_file_where_distributions_put_executables() -> None:
    rules = parsed("allow web to db by process curl")
    said = {path: ask(rules, path).verdict for path in ("/usr/bin/curl", "/bin/curl", "curl", "/tmp/curl")}
    assert said == {"/usr/bin/curl": "allow", "/bin/curl": "allow", "curl": "allow", "/tmp/curl": "deny"}


def ask(rules, process: str = ""):
    return explain(rules, [WEB, DB], "endpoint:acme/w", "endpoint:acme/d", "tcp/1", NOW, process=process)


def test_explain_says_what_a_process_gets_and_which_rule_lost() -> None:
    rules = parsed("allow web to db by process /x", "deny web to db by process /bad")
    assert (ask(rules, "/x").verdict, ask(rules, "/x").rule) == ("allow", "acme/r0")
    said = ask(rules, "/y")
    assert (said.verdict, said.rule) == ("deny", "acme/default-deny")
    assert {lost.rule: lost.why for lost in said.lost}["acme/r0"].startswith("its process condition is not met: /y")
    assert ask(rules, "/bad").rule == "acme/r1"


def test_without_a_process_an_answer_that_depends_on_it_is_mixed() -> None:
    said = ask(parsed("allow web to db by process /x"))
    assert said.verdict == "mixed"
    assert {case["by"]: case["verdict"] for case in said.cases if "by" in case} == {
        "/x": "allow",
        "other process": "deny",
        "unknown process": "deny",
    }


@pytest.mark.parametrize(
    ("assertion", "rules", "holds"),
    [
        ("never web to db", ["allow web to db by process /x"], False),
        ("never web to db", ["allow web to db", "deny web to db by process /x"], False),
        ("never web to db", ["allow web to db by process /x", "deny web to db"], True),
        ("always web to db", ["allow web to db by process /x"], False),
        ("always web to db", ["allow web to db", "deny web to db at process /x"], False),
        ("always web to db", ["allow web to db", "allow web to db by process /x"], True),
    ],
)
def test_a_proof_holds_for_every_process(assertion: str, rules: list[str], holds: bool) -> None:
    (result,) = check(parsed(*rules, assertions=assertion), [WEB, DB], NOW)
    assert result.holds is holds
