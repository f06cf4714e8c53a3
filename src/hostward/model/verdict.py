"""Verdicts and directions: the words that C, Rust, the API and the CLI share."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What happens to a flow. The values are the words of the API."""

    ALLOW = "allow"
    DENY = "deny"
    WOULD_DENY = "would-deny"
    INVALID = "invalid"


class Direction(Enum):
    """Seen from the endpoint: ``EGRESS`` leaves the workload, ``INGRESS`` reaches it."""

    EGRESS = "egress"
    INGRESS = "ingress"
