"""The peer `host`, from a policy's text to a socket of this machine: nobody is it but the machine under the endpoint."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hostward.agent.enforcement import Enforcement
from hostward.agent.messages import Ack, Snapshot
from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from hostward.errors import DeviceError
from hostward.model.endpoint import Endpoint, Port
from hostward.model.slice import HostSlice
from hostward.policy import Numbers, compile_policy, encode_slice, parse_sources, slice_digest
from tests.netns.pair import Pair, inside_of, run
from tests.unit.policy.build import NOW

CAPACITY = Capacity(endpoints=8, flows=140_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
MACHINE, LATER = "10.0.0.200", "10.0.0.201"
# Apart from the pair's own: a machine may have an address among those.
MACHINE6, OWN6 = "fd00:9::200", {"a": "fd00:9::1", "b": "fd00:9::2"}

pytestmark = pytest.mark.netns


def slice_of(pair: Pair, revision: int, *rules: str) -> HostSlice:
    text = "tenant: acme\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules)
    endpoints = [
        Endpoint("acme", name, {}, pair.mac(name), (pair.address(name), OWN6[name]), "h", Port(pair.device(name)))
        for name in "ab"
    ]
    policies = parse_sources([("acme.yaml", text.encode())])
    return compile_policy(policies, endpoints, Numbers.empty(), NOW).slice_for("h", revision)


def snapshot(slice_: HostSlice) -> Snapshot:
    return Snapshot(slice_.revision, encode_slice(slice_), slice_digest(slice_))


def reaches_b(pair: Pair, source: str, patience_s: float) -> bool:
    """Whether a process of this machine opens a connection to `b`:80 from one of the machine's addresses."""
    family, target = (6, OWN6["b"]) if ":" in source else (4, pair.address("b"))
    with pair.socket("b", socket.SOCK_STREAM, family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((target, 80))
        listener.listen()
        with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6) as client:
            client.settimeout(patience_s)
            client.bind((source, 0))
            try:
                client.connect((target, 80))
            except OSError:
                return False
            return True


def with_enforcement(pair: Pair, pins: Path, state: Path, work: Callable[[Enforcement], Awaitable[None]]) -> None:
    async def main() -> None:
        enforcement = Enforcement(open_enforcer(pins, capacity=CAPACITY), state)
        try:
            await work(enforcement)
        finally:
            await enforcement.close()

    run("ip", "addr", "add", f"{MACHINE}/24", "dev", pair.bridge)
    # The pair's bridge speaks no IPv6 unless it is to be the machine's.
    Path(f"/proc/sys/net/ipv6/conf/{pair.bridge}/disable_ipv6").write_text("0")
    run("ip", "addr", "add", f"{MACHINE6}/64", "dev", pair.bridge, "nodad")
    run(*inside_of(pair.namespace("b")), "ip", "addr", "add", f"{OWN6['b']}/64", "dev", "eth0", "nodad")
    asyncio.run(main())


@pytest.mark.parametrize("machine", [MACHINE, MACHINE6])
def test_the_machine_reaches_an_endpoint_only_by_a_rule_about_the_host(
    pair: Pair, pins: Path, tmp_path: Path, machine: str
) -> None:
    async def work(enforcement: Enforcement) -> None:
        for revision, rules, reached in (
            (1, ["allow own to own on tcp/80", "allow internet to own on tcp/80"], False),
            (2, ["allow host to own on tcp/80"], True),
            (3, ["allow host to own on tcp/80", "deny any to own on tcp/80"], False),
            (4, ["allow any to own on tcp/80"], True),
            (5, ["allow any except host to own on tcp/80"], False),
        ):
            answer = await enforcement.take(snapshot(slice_of(pair, revision, *rules)))
            assert isinstance(answer, Ack), answer
            assert reaches_b(pair, machine, 10.0 if reached else 1.0) is reached, rules

    with_enforcement(pair, pins, tmp_path, work)


def test_a_new_address_of_the_machine_is_the_hosts_too_and_the_digest_stays(
    pair: Pair, pins: Path, tmp_path: Path
) -> None:
    async def work(enforcement: Enforcement) -> None:
        sent = slice_of(pair, 1, "allow host to own on tcp/80")
        assert isinstance(await enforcement.take(snapshot(sent)), Ack)
        assert reaches_b(pair, MACHINE, 10.0)
        run("ip", "addr", "add", f"{LATER}/24", "dev", pair.bridge)
        assert not reaches_b(pair, LATER, 1.0)
        health = await enforcement.look_after()
        assert any(f"+{LATER}" in line for line in health.repairs)
        assert reaches_b(pair, LATER, 10.0)
        assert enforcement.digest == slice_digest(sent)
        assert not (await enforcement.look_after()).repairs

    with_enforcement(pair, pins, tmp_path, work)


def test_a_device_that_carries_the_machine_is_no_port(pair: Pair, pins: Path) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    port = Port(pair.device("a"))
    assert held.inspect_device(port).kind == "veth"
    run("ip", "addr", "add", f"{MACHINE}/24", "dev", pair.device("a"))
    with pytest.raises(DeviceError, match=MACHINE):
        held.inspect_device(port)
    run("ip", "addr", "del", f"{MACHINE}/24", "dev", pair.device("a"))
    # A default route of last resort: it must not take this machine's traffic while the test runs.
    run("ip", "link", "set", pair.device("a"), "up")
    run("ip", "route", "add", "default", "dev", pair.device("a"), "metric", "4000000000")
    with pytest.raises(DeviceError, match="default route"):
        held.inspect_device(port)
