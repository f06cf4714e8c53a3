"""Slices are kept within a bound, and what was let go comes out the same again."""

from __future__ import annotations

from tests.unit.policy.build import NOW, endpoint, policies

from hostward.controller.history import History
from hostward.controller.publication import Publication, SliceCache
from hostward.policy import Compiled, Numbers, compile_policy

WEB = "tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"
HOSTS = tuple(f"h{number}" for number in range(1, 6))


def _everywhere() -> Compiled:
    endpoints = [endpoint(f"acme/web-{host}", f"10.0.0.{host[1:]}", host=host, role="web") for host in HOSTS]
    return compile_policy(policies(WEB), endpoints, Numbers.empty(), NOW)


def test_what_is_used_again_is_kept_and_what_is_not_makes_room() -> None:
    revision = _everywhere()
    one = Publication(1, revision, SliceCache()).slice_for("h1").entries
    cache = SliceCache(2 * one)
    publication = Publication(1, revision, cache)
    first, second = publication.slice_for("h1"), publication.slice_for("h2")
    assert publication.slice_for("h1") is first
    publication.slice_for("h3")
    assert cache.entries <= 2 * one
    assert publication.slice_for("h1") is first
    again = publication.slice_for("h2")
    assert again == second
    assert again is not second


def test_a_slice_beyond_the_bound_is_made_and_not_kept() -> None:
    cache = SliceCache(1)
    publication = Publication(1, _everywhere(), cache)
    assert publication.slice_for("h1") == publication.slice_for("h1")
    assert cache.entries == 0


def test_a_site_within_the_bound_keeps_every_slice_of_both_revisions() -> None:
    cache = SliceCache()
    revision = _everywhere()
    publications = [Publication(number, revision, cache) for number in (1, 2)]
    made = [publication.slice_for(host) for publication in publications for host in HOSTS]
    assert cache.entries == sum(kept.entries for kept in made)
    assert all(publication.slice_for(host) in made for publication in publications for host in HOSTS)


def test_a_few_policies_are_remembered_and_of_the_last_ones_every_change_of_endpoints() -> None:
    cache = SliceCache()
    history = History(policies=2, revisions=4)
    assert history.newest is None

    def publish(revision: int, content: Compiled) -> Publication:
        publication = Publication(revision, content, cache)
        history.add(publication)
        publication.slice_for("h1")
        return publication

    policy = _everywhere()
    for number in range(1, 6):
        newest = publish(number, policy.with_endpoints({}))
    assert history.newest is newest
    assert history.find(1) is None
    assert [history.find(number) is not None for number in range(2, 6)] == [True] * 4
    publish(6, _everywhere())
    assert history.find(5) is newest
    publish(7, _everywhere())
    assert history.find(5) is None
    assert history.find(6) is not None
    # What is forgotten takes its slices with it.
    assert cache.entries == sum(history.newest.slice_for("h1").entries for _ in (6, 7))
