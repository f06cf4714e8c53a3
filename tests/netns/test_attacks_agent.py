"""The agent is stopped or killed while a workload floods its port, or called on by it: what is attached keeps deciding.

The kernel's OOM killer is the same SIGKILL. What arrives is counted at the neighbour's sockets; that all of it arrives
where no Hostward is, is test_life.py's.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostward.agent.enforcement import Enforcement
from hostward.agent.messages import Ack
from tests.netns.pair import Pair, run
from tests.netns.test_host_peer import MACHINE, slice_of, snapshot, with_enforcement
from tests.netns.test_life import Stream, arrives, comes_back
from tests.netns.test_up import Machine, machine, policy  # noqa: F401 (fixtures)

pytestmark = pytest.mark.netns

DENIED, ALLOWED = 81, 80
CHANNEL = 7443


@contextmanager
def flooding(pair: Pair) -> Iterator[None]:
    """`a` sends as fast as it can, to denied ports and in flows of one packet."""
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with pair.socket("a", socket.SOCK_DGRAM) as sender:
                for port in (DENIED, ALLOWED, 9_999):
                    sender.sendto(b"flood", (pair.address("b"), port))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_agent_that_is_gone_under_load_passes_nothing_more(
    machine: Machine,  # noqa: F811
    pair: Pair,
    policy: Path,  # noqa: F811
    number: signal.Signals,
) -> None:
    machine.start(policy)
    machine.add(pair, "a", "client")
    machine.add(pair, "b", "server")
    assert comes_back(pair, ALLOWED)
    stream = Stream(pair)
    try:
        with flooding(pair), pair.socket("b", socket.SOCK_DGRAM) as sink:
            sink.bind((pair.address("b"), 9_999))
            sink.settimeout(1.0)
            machine.signal(number)
            assert stream.carries()
            assert not arrives(pair, DENIED)
            with pytest.raises(TimeoutError):
                sink.recv(16)
            assert stream.carries()
        assert comes_back(pair, ALLOWED)
    finally:
        stream.close()


def machine_hears(pair: Pair, patience_s: float) -> bool:
    """Whether `a` opens a connection to a daemon's port on the machine under it."""
    with socket.socket() as listener, pair.socket("a", socket.SOCK_STREAM) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((MACHINE, CHANNEL))
        listener.listen()
        client.settimeout(patience_s)
        try:
            client.connect((MACHINE, CHANNEL))
        except OSError:
            return False
        return True


def test_no_endpoint_reaches_the_machine_but_by_a_rule_about_the_host(pair: Pair, pins: Path, tmp_path: Path) -> None:
    async def work(enforcement: Enforcement) -> None:
        for revision, rules, heard in (
            (1, ["allow own to own", "allow own to internet", "allow own to 10.0.0.0/8"], False),
            (2, ["allow own to host on tcp/7443"], True),
            (3, ["allow own to host on tcp/80"], False),
        ):
            assert isinstance(await enforcement.take(snapshot(slice_of(pair, revision, *rules))), Ack)
            assert machine_hears(pair, 10.0 if heard else 1.0) is heard, rules

    with_enforcement(pair, pins, tmp_path, work)


def test_without_the_datapath_every_endpoint_does(pair: Pair) -> None:
    """The negative control."""
    run("ip", "addr", "add", f"{MACHINE}/24", "dev", pair.bridge)
    pair.set_up()
    assert machine_hears(pair, 10.0)
