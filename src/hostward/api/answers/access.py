"""Who somebody is to the controller, and the tokens that say so."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.controller.access import Role


class Me(Answer):
    """Who asks."""

    name: str = Field(description="As history and the audit log have it: how they were authenticated, and who.")
    role: Role
    tenants: list[str] = Field(description="The tenants that the role is for; none for a role that is for the site.")


class AccessTokenRow(Answer):
    """An API token, without anything to use it by."""

    name: str
    state: Literal["valid", "expired", "revoked"]
    role: str
    tenants: list[str]
    expires: Moment


class Secret(Answer):
    """A token's text. It is shown this once: only its hash is kept."""

    token: str
