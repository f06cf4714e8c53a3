"""From the policy's text to the kernel's verdict: what the loaded programs pass is what the naive oracle allows.

The oracle knows the language and nothing of slices, tables or programs, so a mistake anywhere between them shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Endpoint, Quota
from hostward.policy import Numbers, PolicySet, compile_policy
from hostward.policy.syntax import Rule
from tests.netns import frames as f
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import HOSTS, NOW, OUTSIDE_ADDRESSES, PACKETS, POOL_ADDRESSES, World, worlds

pytestmark = pytest.mark.netns

_CAPACITY = Capacity(
    endpoints=16, flows=65_536, cells=8_192, refs=32_768, prefixes=4_096, decisions=2_048, class_sets=64
)
_QUOTA = Quota(flows=8_192)
_ROUTER_MAC = "02:00:00:00:00:ee"
# Each packet opens a flow of its own: no earlier one's answers it.
_SOURCE_PORTS = cycle(range(1_024, 65_536))
_ECHO = {4: (1, 8), 6: (58, 128)}


def opening(version: int, protocol: int, port: int) -> bytes | None:
    """The header of a packet that opens a flow; None for what policy does not decide alone."""
    source = next(_SOURCE_PORTS)
    match protocol:
        case f.TCP:
            return f.tcp(source, port, f.SYN)
        case f.UDP:
            return f.udp(source, port)
        case 132:
            return f.sctp(source, port)
        case f.ESP:
            return f.esp(source)
        case 1 | 58:
            # ICMP belongs to IPv4 and ICMPv6 to IPv6, and an error is decided by the flow that it is about.
            return f.icmp(port, identifier=source) if (protocol, port) == _ECHO[version] else None
        case _:
            return b""


def questions(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    for local in endpoint.addresses:
        for remote in (*POOL_ADDRESSES, *OUTSIDE_ADDRESSES):
            if ip_address(remote).version == ip_address(local).version and remote != local:
                yield local, remote


def without_processes(policies: PolicySet) -> PolicySet:
    """The same rules for whatever process: each end leaves the other's to the other, and only one end is asked here.

    What becomes of conditions is in test_processes.py.
    """

    def plain(rules: Sequence[Rule]) -> tuple[Rule, ...]:
        return tuple(replace(rule, options=replace(rule.options, by_process=(), at_process=())) for rule in rules)

    platform = policies.platform
    if platform is not None:
        platform = replace(platform, rules=plain(platform.rules), baseline=plain(platform.baseline))
    tenants = {name: replace(policy, rules=plain(policy.rules)) for name, policy in policies.tenants.items()}
    return PolicySet(platform, tenants)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_the_kernel_passes_what_the_oracle_allows(pins: Path, world: World) -> None:
    policies = without_processes(world.policies)
    oracle = Oracle(policies, NOW)
    endpoints = tuple(replace(endpoint, quota=_QUOTA) for endpoint in world.endpoints)
    compiled = compile_policy(policies, endpoints, Numbers.empty(), NOW)
    for host in HOSTS:
        # Hosts follow each other in one kernel: what the one before left behind is part of the trial.
        enforcer = open_enforcer(pins, capacity=_CAPACITY)
        enforcer.enforce(compiled.slice_for(host, enforcer.revision + 1))
        for endpoint in (endpoint for endpoint in endpoints if endpoint.host == host):
            port_of = enforcer.port_of(endpoint.id)
            for local, remote in questions(endpoint):
                mine = Party(endpoint.network, local, endpoint)
                peer = party(endpoints, endpoint.network, remote)
                version = ip_address(local).version
                for protocol, port in PACKETS:
                    for direction in ("egress", "ingress"):
                        header = opening(version, protocol, port)
                        if header is None:
                            continue
                        ends = (local, remote) if direction == "egress" else (remote, local)
                        macs = (endpoint.mac, _ROUTER_MAC) if direction == "egress" else (_ROUTER_MAC, endpoint.mac)
                        ethertype = f.IPV4 if version == 4 else f.IPV6
                        packet = f.ip(*ends, protocol, header)
                        frame = f.ethernet(packet, source=macs[0], destination=macs[1], ethertype=ethertype)
                        passed, _ = port_of.run(direction, frame, 1)
                        pair = (mine, peer) if direction == "egress" else (peer, mine)
                        answer = oracle.decide(*pair, protocol, port)
                        where = (host, direction, local, remote, protocol, port)
                        assert passed is (answer.verdict in ("allow", "would-deny")), (where, answer)
