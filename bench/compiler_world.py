"""A tenant too large to write by hand: the world in which the compiler is measured.

One tenant, because one tenant's identities can all have rules about each other: many tenants of the same size together
are cheaper. Endpoints carry four labels, of 100, 4, 50 and 8 values; a group is the conjunction of one value each of two or
three of them, the labels drawn first. Groups over three labels are small and seldom overlap (some 2,000 identities); over
two they are large and every endpoint is in several (some 40,000). Everything is drawn from one seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from hostward.model.endpoint import Endpoint, Port

KEYS = (("app", 100), ("env", 4), ("team", 50), ("zone", 8))
PORTS = (
    22,
    53,
    80,
    123,
    179,
    389,
    443,
    514,
    636,
    853,
    *range(5_432, 5_440),
    *range(8_080, 8_094),
    *range(9_090, 9_106),
)
PER_HOST = 50
TENANT = "big"


@dataclass(frozen=True, slots=True)
class Size:
    """How large the world is."""

    labels_per_group: int
    groups: int = 1_000
    rules: int = 10_000
    endpoints: int = 100_000


def policy_text(size: Size, random: Random) -> str:
    """The tenant's file: nine rules of ten allow, between two groups on one or two ports."""
    lines = [f"tenant: {TENANT}", "groups:"]
    seen: set[str] = set()
    while len(seen) < size.groups:
        keys = sorted(random.sample(KEYS, size.labels_per_group))
        text = " and ".join(f"{key}=v{random.randrange(values)}" for key, values in keys)
        if text not in seen:
            lines.append(f"  g{len(seen)}: {text}")
            seen.add(text)
    lines.append("rules:")
    rules: set[str] = set()
    while len(rules) < size.rules:
        source, destination = (f"g{random.randrange(size.groups)}" for _ in range(2))
        ports = ", ".join(f"tcp/{port}" for port in sorted(random.sample(PORTS, random.choice((1, 1, 1, 2)))))
        action = "deny" if random.random() < 0.1 else "allow"
        rules.add(f"  - {action} {source} to {destination} on {ports}")
    return "\n".join([*lines, *sorted(rules), ""])


def labels(random: Random) -> dict[str, str]:
    """One endpoint's labels."""
    return {key: f"v{random.randrange(values)}" for key, values in KEYS}


def endpoint(number: int, held: dict[str, str]) -> Endpoint:
    """The endpoint of this number, fifty to a host."""
    mac = f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    address = str(IPv4Address(0x0A000001 + number))
    return Endpoint(TENANT, f"e{number}", held, mac, (address,), f"h{number // PER_HOST}", Port(f"t{number}"))
