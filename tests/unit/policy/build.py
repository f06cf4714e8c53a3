"""Builds policies and endpoints from a few words, for the tests beside it."""

from __future__ import annotations

from datetime import UTC, datetime

from hostward.model.endpoint import Endpoint, Port
from hostward.policy import PolicySet, parse_sources

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def policies(*texts: str) -> PolicySet:
    return parse_sources([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])


def endpoint(identifier: str, address: str, host: str = "h1", network: str = "default", **labels: str) -> Endpoint:
    tenant, _, name = identifier.partition("/")
    return Endpoint(tenant, name, labels, "02:00:00:00:00:01", (address,), host, Port(name), network)
