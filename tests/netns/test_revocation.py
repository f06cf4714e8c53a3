"""`keep` from the file to the packet: a live stream outlives its rule, and nothing else of it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns.pair import Pair
from tests.netns.test_adoption import attach, policy  # noqa: F401 (a fixture)
from tests.netns.test_life import Stream, comes_back
from tests.netns.test_up import Machine, machine  # noqa: F401 (a fixture)

FILE = "tenant: acme\ngroups:\n  client: role=client\n  server: role=server\n"


def saying(rule: str) -> str:
    return FILE + (f"rules: ['{rule}']\n" if rule else "rules: []\n")


@pytest.mark.netns
@pytest.mark.parametrize("keep", [True, False], ids=["keep", "without keep"])
def test_a_stream_outlives_its_rule_only_by_keep(
    machine: Machine,  # noqa: F811
    pair: Pair,
    policy: Path,  # noqa: F811
    keep: bool,
) -> None:
    rule = f"allow client to server on tcp/80, udp/80{' keep' if keep else ''}"
    policy.write_text(saying(rule))
    attach(machine, pair, policy)
    stream = Stream(pair)
    try:
        assert stream.carries()
        policy.write_text(saying(""))
        machine.command("apply", "-f", str(policy))
        assert stream.carries() is keep
        assert not comes_back(pair, 80)  # whatever opens now is denied
        if keep:
            # Another revision does not end it, and the controller remembers why it goes on; a denial does end it.
            policy.write_text(saying("allow client to server on udp/99"))
            machine.command("apply", "-f", str(policy))
            assert stream.carries()
            policy.write_text(saying("deny client to server on tcp/80"))
            machine.command("apply", "-f", str(policy))
            assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
def test_a_relabelled_peer_ends_what_was_kept(machine: Machine, pair: Pair, policy: Path) -> None:  # noqa: F811
    policy.write_text(saying("allow client to server on tcp/80 keep"))
    attach(machine, pair, policy)
    stream = Stream(pair)
    try:
        policy.write_text(saying(""))
        machine.command("apply", "-f", str(policy))
        assert stream.carries()
        machine.command("endpoint", "label", "b", "role=other")
        assert not stream.carries()
    finally:
        stream.close()
