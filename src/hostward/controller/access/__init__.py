"""Who asks the controller, and what they may: principals, API tokens, and the policy that decides."""

from hostward.controller.access.decision import Action, Scope, scope_of
from hostward.controller.access.principal import Authentication, Principal, Role
from hostward.controller.access.tokens import AccessTokens

__all__ = ["AccessTokens", "Action", "Authentication", "Principal", "Role", "Scope", "scope_of"]
