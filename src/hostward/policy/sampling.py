"""`sampling:` of tenants and of the platform: what a rate says, and which one holds for an endpoint.

Of all rates that speak of an endpoint, the platform's and its tenant's, the most frequent holds: whoever asked for more
gets it, and what others were promised is kept. Where nobody speaks, nothing is sampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hostward.policy.syntax import Group

# The name that stands for all of the owner's endpoints; no group may be called so.
EVERYBODY = "any"
# SPARSEST of crates/hostward-datapath/src/sampling.rs.
SPARSEST = 10_000_000
FORM = r"1/[1-9][0-9]{0,7}"

# By group, or EVERYBODY: one packet in so many.
Sampling = Mapping[str, int]


def parse_sampling_rate(text: str) -> int:
    """``1/1000``. Raises ValueError: what is wrong and, in the next line, a hint."""
    if not re.fullmatch(FORM, text, re.ASCII):
        raise ValueError(f"{text[:64]!r} is no sampling rate\nwrite e.g. 1/1000: one packet in a thousand")
    rate = int(text[2:])
    if rate > SPARSEST:
        raise ValueError(f"1/{rate} is too sparse\na rate is at least 1/{SPARSEST}")
    return rate


def sampling_rate_text(rate: int) -> str:
    """The inverse of ``parse_sampling_rate``; ``none`` for 0."""
    return f"1/{rate}" if rate else "none"


def most_frequent(spoken: Iterable[tuple[Sampling, Mapping[str, Group]]], labels: Mapping[str, str]) -> int:
    """What holds for an endpoint with these labels: one packet in so many, or 0 where nobody speaks of it."""
    rates = [
        rate
        for sampling, groups in spoken
        for name, rate in sampling.items()
        if name == EVERYBODY or _holds(groups[name], labels, groups)
    ]
    return min(rates, default=0)


def _holds(group: Group, labels: Mapping[str, str], groups: Mapping[str, Group]) -> bool:
    return group.expression is not None and group.expression.holds(labels, groups)
