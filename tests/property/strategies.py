"""Random policies, endpoints and packets. Policies are made as text, so that the parser is tested on the way.

The worlds are small on purpose: few names and addresses meet often, and a shrunk failure can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from hostward.model.endpoint import Endpoint, Port
from hostward.policy import PolicySet, parse_sources

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TENANTS = ("acme", "beta", "ghost")  # ghost never has a file
NETWORKS = ("default", "blue")
HOSTS = ("h1", "h2", "h3")
LABEL_GROUPS = ("web", "app", "odd", "inner")
PREFIX_GROUPS = ("office", "lan")
POOL_ADDRESSES = tuple(f"10.0.0.{n}" for n in range(1, 9)) + tuple(f"fd00::{n}" for n in range(1, 5))
OUTSIDE_ADDRESSES = (
    "203.0.113.7", "203.0.113.200", "198.51.100.1", "8.8.8.8", "192.168.1.1", "192.168.77.7",
    "2001:db8:17::1", "2001:db8:18::1", "2a00::1",
)  # fmt: skip
PREFIXES = (
    "0.0.0.0/0", "::/0", "203.0.113.0/24", "203.0.113.0/25", "203.0.112.0/20", "198.51.100.1", "192.168.0.0/17",
    "192.0.0.0/4", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.3", "8.0.0.0/6",
    "2001:db8:17::/48", "2001:db8::/32", "fd00::2/127",
)  # fmt: skip
PORTS = (
    "tcp/80", "tcp/443", "tcp/80-443", "tcp", "udp/53", "udp", "icmp/echo-request", "icmpv6/echo-request", "icmp",
    "sctp/80", "esp", "proto/47", "proto/6", "gre", "any", "pg",
)  # fmt: skip
PACKETS = (
    (6, 80), (6, 81), (6, 443), (6, 444), (6, 65_535), (6, 0), (17, 53), (17, 80), (1, 8), (1, 13), (58, 128), (58, 3),
    (132, 80), (132, 81), (50, 0), (47, 0), (4, 0), (255, 0), (6, 5432), (17, 5432),
)  # fmt: skip

CONDITIONS = (
    " by process /a", " by process /a, /b", " by process tool", " at process /c", " at process /c, /d",
    " by process /b at process /d",
)  # fmt: skip
EXECUTABLES = ("/a", "/b", "/usr/bin/tool", "/c", "/d", "/nobody/names/it", None)  # None: not known


@dataclass(frozen=True)
class World:
    """One random revision."""

    policies: PolicySet
    endpoints: tuple[Endpoint, ...]
    text: str

    def __repr__(self) -> str:
        places = "\n".join(f"{e.id} {e.network} {e.host} {e.addresses} {dict(e.labels)}" for e in self.endpoints)
        return f"\n{self.text}\n{places}"


_facts = st.sampled_from(
    (
        "role=web",
        "role!=web",
        "role=app",
        "has env",
        "env=prod",
        "role in (web, app)",
        "not has role",
        "not (env!=prod)",
    )
)
_expressions = st.one_of(
    _facts,
    st.tuples(_facts, st.sampled_from(("and", "or")), _facts).map(" ".join),
)


def _peers(platform: bool) -> st.SearchStrategy[str]:
    common = [
        st.sampled_from(("any", "any", "internet", "own", "host")),
        st.sampled_from((*LABEL_GROUPS, *PREFIX_GROUPS)),
        st.sampled_from((*LABEL_GROUPS, *LABEL_GROUPS)),
        st.sampled_from(PREFIXES),
        st.tuples(
            st.sampled_from((*TENANTS, "nobody") if platform else (*TENANTS, "platform", "nobody")),
            st.sampled_from((*LABEL_GROUPS, "office", "*", "*", "missing")),
        ).map(lambda pair: f"tenant {pair[0]}/{pair[1]}"),
    ]
    return st.one_of(*common)


@st.composite
def _sides(draw: Any, platform: bool, owner: str) -> str:
    def peer() -> str:
        text = draw(_peers(platform))
        # Naming a missing group of one's own tenant is a mistake that the parser refuses.
        return "own" if text == f"tenant {owner}/missing" else text

    text = ", ".join(peer() for _ in range(draw(st.sampled_from((1, 1, 2)))))
    if draw(st.sampled_from((False, False, True))):
        text += f" except {peer()}"
    return text


@st.composite
def rule_lines(draw: Any, owner: str = "acme", platform: bool = False) -> str:
    """One rule."""
    action = draw(st.sampled_from(("allow", "allow", "allow", "deny")))
    line = f"{action} {draw(_sides(platform, owner))} to {draw(_sides(platform, owner))}"
    if draw(st.booleans()):
        line += " on " + ", ".join(draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=2, unique=True)))
    options = ["", "", " log", " until 2026-12-01T00:00Z", " until 2026-11-01T00:00Z"]
    of_denials = [" audit", " audit log", " reject", " audit reject"]
    # So much that the kernel, which is asked about each packet too, never reaches it.
    of_allowances = [" limit=5Gbit/s", " limit=4Gbit/s log", " limit=9Mpkt/s", " limit=7Mconn/s"]
    line += draw(st.sampled_from([*options, *(of_denials if action == "deny" else of_allowances)]))
    return line + draw(st.sampled_from(("", "", "", "", *CONDITIONS)))


@st.composite
def _common(draw: Any, owner: str, platform: bool, indent: str) -> list[str]:
    lines = ["groups:"]
    lines += [f"  {name}: {draw(_expressions)}" for name in LABEL_GROUPS[:3]]
    lines += [f"  inner: group {draw(st.sampled_from(LABEL_GROUPS[:3]))}"]
    for name in PREFIX_GROUPS:
        lines.append(
            f"  {name}: [{', '.join(draw(st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2, unique=True)))}]"
        )
    lines.append("services: {pg: [tcp/5432, udp/5432]}")
    for key in ("rules", "baseline") if platform else ("rules",):
        limit = 5 if key == "rules" and not platform else 2
        rules = draw(st.lists(rule_lines(owner, platform), max_size=limit))
        lines.append(f"{key}: [" if not rules else f"{key}:")
        lines += [f"  - {key[0]}{number}: {rule}" for number, rule in enumerate(rules)] or ["]"]
    return [indent + line for line in lines]


@st.composite
def tenant_texts(draw: Any, name: str) -> str:
    """A tenant's file."""
    exports = draw(st.lists(st.sampled_from((*LABEL_GROUPS, *PREFIX_GROUPS)), unique=True, max_size=4))
    lines = [f"tenant: {name}", f"mode: {draw(st.sampled_from(('enforce', 'enforce', 'audit')))}"]
    lines.append(f"exports: [{', '.join(exports)}]")
    return "\n".join([*lines, *draw(_common(name, platform=False, indent=""))]) + "\n"


@st.composite
def platform_texts(draw: Any) -> str:
    """The platform's file, with the networks that the endpoints need."""
    lines = [
        "platform:",
        "  networks:",
        "    default: {pools: [10.0.0.0/28, 'fd00::/16']}",
        "    blue: {pools: [10.0.0.0/24, 'fd00::/8']}",
        f"  internal: [{draw(st.sampled_from(('192.168.0.0/16', '192.168.0.0/16, 10.0.0.0/8')))}]",
    ]
    return "\n".join([*lines, *draw(_common("platform", platform=True, indent="  "))]) + "\n"


@st.composite
def endpoint_sets(draw: Any, networks: tuple[str, ...] = NETWORKS) -> tuple[Endpoint, ...]:
    """Endpoints with addresses that are unique within their network."""
    free = {network: list(POOL_ADDRESSES) for network in networks}
    endpoints = []
    for number in range(draw(st.integers(1, 6))):
        network = draw(st.sampled_from((*networks, networks[0])))
        count = min(draw(st.sampled_from((1, 1, 2))), len(free[network]))
        addresses = tuple(free[network].pop(draw(st.integers(0, len(free[network]) - 1))) for _ in range(count))
        labels = {}
        for key, values in (("role", ("web", "app", "db")), ("env", ("prod", "dev"))):
            value = draw(st.sampled_from((None, *values)))
            if value is not None:
                labels[key] = value
        endpoints.append(
            Endpoint(
                tenant=draw(st.sampled_from(TENANTS)),
                name=f"e{number}",
                labels=labels,
                mac=f"02:00:00:00:00:{number:02x}",
                addresses=addresses,
                host=draw(st.sampled_from(HOSTS)),
                port=Port(f"veth{number}"),
                network=network,
            )
        )
    return tuple(endpoints)


def without(world: World, condition: str) -> World:
    """The same world without one kind of process condition, `by` or `at`."""
    texts = re.sub(rf" {condition} process /?\w+(, /?\w+)*", "", world.text).split("---\n")
    policies = parse_sources([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])
    return replace(world, policies=policies, text="---\n".join(texts))


@st.composite
def worlds(draw: Any, networks: tuple[str, ...] = NETWORKS) -> World:
    """Two tenants with files, one without, the platform's file or none, and endpoints."""
    texts = {name: draw(tenant_texts(name)) for name in TENANTS[:2]}
    with_platform = len(networks) > 1 or draw(st.booleans())
    if with_platform:
        texts["platform"] = draw(platform_texts())
    policies = parse_sources([(f"{name}.yaml", text.encode()) for name, text in texts.items()])
    return World(policies, draw(endpoint_sets(networks)), "---\n".join(texts.values()))
