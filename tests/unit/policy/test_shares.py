"""`platform: shares:`: whole numbers by tenant, in slices of the hosts that carry the tenant."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.errors import PolicyError
from hostward.policy import Numbers, compile_policy

WEB = endpoint("acme/w", "10.0.0.1")
API = endpoint("shop/a", "10.0.0.2")


def test_a_tenants_weight_is_its_endpoints() -> None:
    found = compile_policy(policies("platform:\n  shares: {acme: 3}\n"), [WEB, API], Numbers.empty(), NOW)
    assert {e.id: e.share for e in found.slice_for("h1", 1).endpoints.values()} == {"acme/w": 3, "shop/a": 1}


@pytest.mark.parametrize("weight", ["0", "1001", "-1", "1.5", "x", "[1]"])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(PolicyError, match="a share is a whole number from 1 to 1,000"):
        policies(f"platform:\n  shares: {{acme: {weight}}}\n")
