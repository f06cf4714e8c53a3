"""The policy that every protected case holds: one list of rules, written in each filter's own words.

A rule lets one group of clients reach the servers at one TCP port, in both families; everything else is denied. Clients
are told apart by address and services by port, so that no filter can decide by one of the two alone. Nothing here runs
anything: the texts and slices are pure functions of the number of rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

from hostward.model.endpoint import Endpoint, Port, Quota
from hostward.model.slice import HostSlice
from hostward.policy import PolicySet, compile_policy, parse_sources
from hostward.policy.numbers import Numbers

TENANT = "bench"
HOST = "host"
FAMILIES = (4, 6)
# The two workloads, in subnets of their own; their gateways are the first addresses.
CLIENT = {4: "10.77.1.2", 6: "fd77:1::2"}
SERVER = {4: "10.77.2.2", 6: "fd77:2::2"}
MACS = {"client": "02:00:00:00:01:02", "server": "02:00:00:00:02:02"}
# Services, one rule of each group for each; the measured ones are the last rules of the last group.
SERVICES = tuple(range(8001, 8011))
CONNECT_PORT, REQUEST_PORT, STREAM_PORT = SERVICES[-3:]
# No rule names it, and the server listens on it: what filters nothing is found out.
DENIED_PORT = SERVICES[-1] + 1
# All other clients live on other hosts, from these addresses on.
_FIRST_OTHER = {4: int(IPv4Address("10.78.0.1")), 6: int(IPv6Address("fd78::1"))}
# A compilation is a function of its time: `until` is the only thing that asks for it.
_COMPILED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """Clients of group ``group`` may open TCP connections to the servers' ``port``."""

    name: str
    group: int
    port: int


def rules_of(count: int) -> tuple[Rule, ...]:
    """``count`` rules, a multiple of the number of services; the measured client's group comes last."""
    if count < len(SERVICES) or count % len(SERVICES):
        raise ValueError(f"the number of rules is a multiple of {len(SERVICES)}, not {count}")
    return tuple(
        Rule(f"rule-{number + 1}", number // len(SERVICES), SERVICES[number % len(SERVICES)]) for number in range(count)
    )


def client_address(rules: tuple[Rule, ...], group: int, family: int) -> str:
    """The address of the one client in a group."""
    if group == rules[-1].group:
        return CLIENT[family]
    number = _FIRST_OTHER[family] + group
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))


# --- Hostward ---------------------------------------------------------------------------------------------------------


def hostward_document(rules: tuple[Rule, ...]) -> str:
    """The policy in Hostward's language."""
    groups = sorted({rule.group for rule in rules})
    lines = [f"tenant: {TENANT}", "groups:", "  servers: role=server"]
    lines += [f"  clients-{group}: clients={group}" for group in groups]
    lines += ["rules:"]
    lines += [f"  - {rule.name}: allow clients-{rule.group} to servers on tcp/{rule.port}" for rule in rules]
    return "\n".join(lines) + "\n"


def hostward_policies(rules: tuple[Rule, ...]) -> PolicySet:
    """The policy as Hostward parses it."""
    return parse_sources([("bench.yaml", hostward_document(rules).encode())])


def hostward_endpoints(rules: tuple[Rule, ...], ports: Mapping[str, Port], quota: Quota) -> tuple[Endpoint, ...]:
    """The two measured workloads on this host, and all other clients elsewhere."""
    last = rules[-1].group
    workloads = (
        ("client", {"clients": str(last)}, CLIENT),
        ("server", {"role": "server"}, SERVER),
    )
    local = tuple(
        Endpoint(TENANT, name, labels, MACS[name], tuple(addresses.values()), HOST, ports[name], quota=quota)
        for name, labels, addresses in workloads
    )
    others = tuple(
        Endpoint(
            TENANT,
            f"client-{group}",
            {"clients": str(group)},
            "02:00:00:00:03:02",
            tuple(client_address(rules, group, family) for family in FAMILIES),
            "elsewhere",
            Port("elsewhere"),
        )
        for group in sorted({rule.group for rule in rules} - {last})
    )
    return local + others


def hostward_slice(rules: tuple[Rule, ...], ports: Mapping[str, Port], quota: Quota) -> HostSlice:
    """The policy as the real compiler gives it to the measured host."""
    endpoints = hostward_endpoints(rules, ports, quota)
    compiled = compile_policy(hostward_policies(rules), endpoints, Numbers.empty(), _COMPILED_AT)
    return compiled.slice_for(HOST, revision=1)


# --- nftables ---------------------------------------------------------------------------------------------------------

_NFT_WORDS = {4: ("ip", "ipv4", "ipv4_addr"), 6: ("ip6", "ipv6", "ipv6_addr")}
# Live connections leave at the first rule: the fast path an expert would write. What opens or is denied is counted.
_NFT_HEAD = """\
  counter opened {}
  counter denied {}
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    meta nfproto vmap { ipv4 : jump opens_ipv4, ipv6 : jump opens_ipv6 }
    counter name denied
  }
"""


def nftables_linear(rules: tuple[Rule, ...]) -> str:
    """The policy rule by rule, as most rule sets are generated; a packet meets only its own family's rules."""
    chains = []
    for family in FAMILIES:
        word, chain, _ = _NFT_WORDS[family]
        lines = [
            f"    {word} saddr {client_address(rules, rule.group, family)} {word} daddr {SERVER[family]}"
            f" tcp dport {rule.port} counter name opened accept"
            for rule in rules
        ]
        chains.append(f"  chain opens_{chain} {{\n" + "\n".join(lines) + "\n  }\n")
    return "table inet bench {\n" + _NFT_HEAD + "".join(chains) + "}\n"


def nftables_sets(rules: tuple[Rule, ...]) -> str:
    """The policy as one hash look-up over (client, server, port) for each family: the best form there is."""
    parts = []
    for family in FAMILIES:
        word, chain, kind = _NFT_WORDS[family]
        elements = ",\n      ".join(
            f"{client_address(rules, rule.group, family)} . {SERVER[family]} . {rule.port}" for rule in rules
        )
        parts.append(
            f"  set allowed_{chain} {{\n    type {kind} . {kind} . inet_service;\n"
            f"    elements = {{\n      {elements}\n    }}\n  }}\n"
            f"  chain opens_{chain} {{\n"
            f"    {word} saddr . {word} daddr . tcp dport @allowed_{chain} counter name opened accept\n  }}\n"
        )
    return "table inet bench {\n" + _NFT_HEAD + "".join(parts) + "}\n"
