"""The keys of a policy file: what each holds and means, in their canonical order.

``document`` reads by these tables, ``formatting`` orders by them, the JSON Schema and the language reference are made
from them. Nothing here parses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

# Of a tenant's share: beyond a thousand to one the smaller one would wait for whole frames.
MAX_SHARE = 1_000
# Of one network: HW_DHCP_SERVERS of bpf/abi.h.
MAX_DHCP_SERVERS = 8


class Holds(Enum):
    """What the value of a key is."""

    NAME = "a name"
    MODE = "a mode"
    GROUPS = "a mapping of names to label expressions or lists of prefixes"
    SERVICES = "a mapping of names to ports"
    NAMES = "a list of groups' names"
    RULES = "a list of rules, each a line or NAME: line"
    ASSERTIONS = "a list of assertions"
    NETWORKS = "a mapping of names to networks"
    PREFIXES = "a list of prefixes"
    SHARES = "a mapping of tenants to whole numbers"
    GUARD = "a mapping of what is recognised to what is done"
    OVERLOAD = "a word"
    SAMPLING = "a rate, or a mapping of groups to rates"


@dataclass(frozen=True, slots=True)
class Key:
    """One key; ``meaning`` is a line for people."""

    holds: Holds
    meaning: str


_MODE = Key(
    Holds.MODE, "`enforce` (the default), or `audit`: what would be denied passes and is reported as would-deny"
)
_GROUPS = Key(Holds.GROUPS, "NAME: a label expression such as `role=web and env=prod`, or a list of prefixes")
_SERVICES = Key(Holds.SERVICES, "NAME: a port such as `tcp/5432`, or a list of ports")
_ASSERTIONS = Key(
    Holds.ASSERTIONS, "what must hold of the rules, `never …` or `always …`; proved before a change is made"
)

_GUARD = Key(
    Holds.GUARD,
    "what is done about an endpoint that attacks: `horizontal-scan`, `vertical-scan`, `syn-flood`, `spoof`: `ignore`, "
    "`alert` (the default), `throttle` or `quarantine`, each with `above N` where the usual threshold does not fit; "
    "of the platform's and the tenant's the stricter holds",
)

_OVERLOAD = Key(
    Holds.OVERLOAD,
    "of flows that rules with `inspect=` allow, while the inspector is overloaded or away: `fail-open` (the default), they "
    "pass and what was not seen is counted, or `fail-closed`, they are denied",
)

_SAMPLING = Key(
    Holds.SAMPLING,
    "which share of endpoints' packets is sampled, at random: `1/1000`, or GROUP: its rate, and `any` for all of them; "
    "from `1/1` to `1/10000000`; of all rates that speak of an endpoint, the platform's and its tenant's, the most "
    "frequent holds; by default none is",
)

TENANT_KEYS: Mapping[str, Key] = {
    "tenant": Key(Holds.NAME, "the tenant that this document describes"),
    "mode": _MODE,
    "groups": _GROUPS,
    "services": _SERVICES,
    "exports": Key(
        Holds.NAMES,
        "groups that other tenants may name; the platform may name every group, and its own may be named by all",
    ),
    "rules": Key(Holds.RULES, "the tenant's rules; their order never matters"),
    "assertions": _ASSERTIONS,
    "guard": _GUARD,
    "inspection": _OVERLOAD,
    "sampling": _SAMPLING,
}

PLATFORM_KEYS: Mapping[str, Key] = {
    "mode": _MODE,
    "networks": Key(
        Holds.NETWORKS,
        "address spaces, NAME: {pools: [PREFIX, …], dhcp: [ADDRESS, …]}; the addresses of endpoints lie in pools, "
        "and under `dhcp`, if it is there, are those that DHCP answers come from; "
        "by default one, `default`, with the pools 10.0.0.0/8, 100.64.0.0/10 and fd00::/8",
    ),
    "internal": Key(
        Holds.PREFIXES,
        "addresses that are neither an endpoint's nor the internet's; by default 172.16.0.0/12 and 192.168.0.0/16",
    ),
    "shares": Key(
        Holds.SHARES,
        "TENANT: its weight, 1 to 1,000, when a host's uplink or downlink is divided among tenants; by default 1",
    ),
    "groups": _GROUPS,
    "services": _SERVICES,
    "rules": Key(Holds.RULES, "before every tenant's rules; tenants cannot override them"),
    "baseline": Key(Holds.RULES, "rules behind the tenants', where no rule of a tenant speaks"),
    "assertions": _ASSERTIONS,
    "guard": _GUARD,
    "inspection": _OVERLOAD,
    "sampling": _SAMPLING,
}

NETWORK_KEYS: Mapping[str, Key] = {
    "pools": Key(Holds.PREFIXES, "where the addresses of this network's endpoints lie"),
    "dhcp": Key(
        Holds.PREFIXES,
        "the addresses that DHCP answers come from (of DHCPv6 the link-local one of a server or relay, as a rule): "
        "endpoints ask these or everybody, and these alone answer; at most 8; by default any may answer",
    ),
}
