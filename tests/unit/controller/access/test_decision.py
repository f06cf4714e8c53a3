"""The Cedar policy: every role against every action, at the site, at an own tenant and at another's."""

from importlib.resources import files

import cedarpy
import pytest

from hostward.controller.access.decision import CHANGES, Action, scope_of
from hostward.controller.access.principal import Authentication, Principal, Role
from hostward.errors import AccessError

READS = frozenset(Action) - CHANGES
SITE_READS = {Action.READ_HOSTS, Action.READ_ACCESS, Action.READ_AUDIT}
SITE_CHANGES = {
    Action.CONFIRM,
    Action.ROLLBACK,
    Action.ENROL_HOST,
    Action.MOVE_HOST,
    Action.CHANGE_ACCESS,
    Action.BOUND_ENDPOINT,
    Action.RELEASE_ENDPOINT,
}


def someone(role, *tenants):
    return Principal("x", Authentication.TOKEN, role, frozenset(tenants))


def reach(role, *tenants):
    """What the role may do at all: action to the tenants it reaches."""
    found = {}
    for action in Action:
        try:
            found[action] = scope_of(someone(role, *tenants), action).tenants
        except AccessError:
            continue
    return found


def test_the_policy_fits_its_schema():
    folder = files("hostward.controller.access")
    result = cedarpy.validate_policies(
        folder.joinpath("policy.cedar").read_text(), folder.joinpath("policy.cedarschema").read_text()
    )
    assert result.validation_passed, result.errors


def test_each_role_reaches_exactly_this():
    assert reach(Role.PLATFORM_OPERATOR) == dict.fromkeys(Action)
    assert reach(Role.AUDITOR) == dict.fromkeys(READS)
    own = frozenset({"acme", "beta"})
    assert reach(Role.TENANT_VIEWER, *own) == dict.fromkeys(READS - SITE_READS, own)
    assert reach(Role.TENANT_EDITOR, *own) == dict.fromkeys(frozenset(Action) - SITE_READS - SITE_CHANGES, own)
    assert reach(Role.TENANT_EDITOR) == {}


@pytest.mark.parametrize("tenant", ["other", "", 'acme" || true', "platform"])
def test_another_tenant_is_out_of_reach(tenant):
    scope = scope_of(someone(Role.TENANT_EDITOR, "acme"), Action.APPLY)
    scope.require("acme")
    with pytest.raises(AccessError, match="may not apply"):
        scope.require(tenant)
    with pytest.raises(AccessError):
        scope.require_site("the platform's policy")


def test_an_action_without_a_rule_is_denied():
    folder = files("hostward.controller.access")
    answer = cedarpy.is_authorized(
        {"principal": 'Principal::"x"', "action": 'Action::"unheard-of"', "resource": 'Site::"site"', "context": {}},
        folder.joinpath("policy.cedar").read_text(),
        [
            {
                "uid": {"type": "Principal", "id": "x"},
                "attrs": {"tenants": []},
                "parents": [{"type": "Role", "id": "platform-operator"}],
            }
        ],
    )
    assert answer.decision is cedarpy.Decision.Deny
