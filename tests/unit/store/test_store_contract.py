"""One contract for every store: SQLite and memory must not be tellable apart."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hostward.errors import ConflictError, EnrolmentError, NotFoundError
from hostward.model.endpoint import Endpoint, Port
from hostward.store.memory import MemoryStore
from hostward.store.records import (
    AttestationRecord,
    Change,
    HostRecord,
    HostState,
    PolicySource,
    RetiredAddress,
    TokenRecord,
    Unconfirmed,
)
from hostward.store.sqlite import SqliteStore

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACME = PolicySource("acme", "acme.yaml", "tenant: acme\n")
WEB = Endpoint(
    "acme", "web1", {"role": "web"}, "02:00:00:00:00:01", ("10.0.0.1", "fd00::1"), "alpha", Port("veth1", "n")
)
ALPHA = HostRecord("alpha", HostState.ADMITTED, NOON, ("1a",), NOON + timedelta(days=1))


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state.db")
    yield made
    made.close()


def change(**parts):
    return Change(NOON, "root", "a change", **parts)


def test_an_empty_store_is_revision_zero(store):
    state = store.load()
    assert (state.revision, state.sources, state.endpoints, state.hosts, state.numbers) == (0, {}, {}, {}, b"")
    assert store.revisions(10) == ()


def test_the_audit_logs_length_is_its_newest_number(store):
    assert store.audit_length() == 0
    store.commit(0, change(sources={"acme": ACME}))
    store.commit(1, change(hosts={"alpha": ALPHA}))
    assert store.audit_length() == store.audit(0, 100)[-1].number > 0


def test_what_was_committed_is_loaded(store):
    assert store.commit(0, change(sources={"acme": ACME}, endpoints={WEB.id: WEB}, numbers=b"n")) == 1
    assert store.commit(1, change(hosts={"alpha": ALPHA})) == 2
    state = store.load()
    assert state.revision == 2
    assert state.sources == {"acme": ACME}
    assert state.endpoints == {WEB.id: WEB}
    assert state.hosts == {"alpha": ALPHA}
    assert state.numbers == b"n"


def test_a_named_none_removes_and_the_rest_stays(store):
    other = replace(WEB, name="web2")
    store.commit(0, change(endpoints={WEB.id: WEB, other.id: other}, hosts={"alpha": ALPHA}))
    store.commit(1, change(endpoints={WEB.id: None}))
    state = store.load()
    assert state.endpoints == {other.id: other}
    assert state.hosts == {"alpha": ALPHA}


def test_a_commit_against_an_old_head_is_refused_and_writes_nothing(store):
    store.commit(0, change(sources={"acme": ACME}))
    with pytest.raises(ConflictError, match="head is 1"):
        store.commit(0, change(sources={}, endpoints={WEB.id: WEB}))
    assert store.load().sources == {"acme": ACME}
    assert store.load().endpoints == {}
    assert len(store.revisions(10)) == 1


def test_history_is_newest_first_and_shares_policy_text(store):
    store.commit(0, change(sources={"acme": ACME}))
    store.commit(1, change(endpoints={WEB.id: WEB}))
    store.commit(2, change(sources={}))
    assert [(r.number, r.policy_revision, r.time) for r in store.revisions(10)] == [
        (3, 3, NOON),
        (2, 1, NOON),
        (1, 1, NOON),
    ]
    assert [r.number for r in store.revisions(1)] == [3]
    assert store.policy_at(2) == {"acme": ACME}
    assert store.policy_at(3) == {}


def test_history_keeps_what_was_allowed_to_fail(store):
    store.commit(0, change(allowed_failing=("acme: never internet to db", "acme: always a to b")))
    store.commit(1, change())
    assert [r.allowed_failing for r in store.revisions(2)] == [
        (),
        ("acme: never internet to db", "acme: always a to b"),
    ]


@pytest.mark.parametrize("number", [0, 2, -1])
def test_an_unknown_revision_is_named(store, number):
    store.commit(0, change(sources={"acme": ACME}))
    with pytest.raises(NotFoundError, match="no such revision"):
        store.policy_at(number)


def test_put_host_makes_no_revision(store):
    store.put_host(ALPHA)
    store.put_host(replace(ALPHA, serials=("2b", "1a")))
    assert store.load().revision == 0
    assert store.load().hosts["alpha"].serials == ("2b", "1a")


def test_a_token_is_redeemed_once(store):
    store.put_token(TokenRecord("h", "alpha", NOON + timedelta(hours=1)))
    assert store.redeem_token("h", "alpha", NOON).used_by == "alpha"
    with pytest.raises(EnrolmentError, match="already used by alpha"):
        store.redeem_token("h", "alpha", NOON)


@pytest.mark.parametrize(
    ("secret_hash", "host", "late_s", "message"),
    [("x", "alpha", 0, "not known"), ("h", "beta", 0, "bound to host alpha"), ("h", "alpha", 3600, "expired")],
)
def test_a_refused_redemption_leaves_the_token_unused(store, secret_hash, host, late_s, message):
    store.put_token(TokenRecord("h", "alpha", NOON + timedelta(hours=1)))
    with pytest.raises(EnrolmentError, match=message):
        store.redeem_token(secret_hash, host, NOON + timedelta(seconds=late_s))
    assert store.redeem_token("h", "alpha", NOON).used_by == "alpha"


def test_a_retired_address_stays_until_it_is_named_again(store):
    gone = RetiredAddress("default", "10.0.0.1", WEB.id, 1)
    store.commit(0, change(retired={gone.key: gone}))
    store.commit(1, change())
    assert store.load().retired == {gone.key: gone}
    store.commit(2, change(retired={gone.key: None}))
    assert store.load().retired == {}


def test_what_waits_to_be_confirmed_outlives_other_commits(store):
    waiting = Unconfirmed(1, NOON)
    store.commit(0, change(unconfirmed=waiting))
    store.commit(1, change())
    assert store.load().unconfirmed == waiting
    store.confirm()
    assert store.load().unconfirmed is None
    assert store.load().revision == 2


def test_what_is_known_of_a_tpm_is_kept_whatever_is_committed_of_its_host(store):
    seen = AttestationRecord("ab" * 32, "000b" + "cd" * 32, 3, 60_000, 7, 0, "boot", 12)
    store.commit(0, change(hosts={"alpha": ALPHA}))
    store.put_attestations({"alpha": seen, "beta": seen})
    store.commit(1, change(hosts={"alpha": replace(ALPHA, state=HostState.UNTRUSTED)}))
    assert store.load().attestations == {"alpha": seen, "beta": seen}
    store.put_attestations({"alpha": replace(seen, boots=4), "beta": None})
    assert store.load().attestations["alpha"].boots == 4
    store.put_attestations({"alpha": None})
    assert store.load().attestations == {}
