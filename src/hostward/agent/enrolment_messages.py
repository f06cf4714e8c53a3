"""The words of the enrolment port; msgspec structs in msgpack, as on the agent channel."""

from __future__ import annotations

import msgspec


class _Message(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class AskAuthority(_Message, frozen=True, tag="ask-authority"):
    """What is the CA's certificate? Asked before the controller is trusted, and nothing secret goes along."""


class AuthorityIs(_Message, frozen=True, tag="authority-is"):
    """The CA's certificate, PEM; worth nothing until compared with the pin."""

    certificate: bytes


class Join(_Message, frozen=True, tag="join"):
    """Redeem a token's secret for a certificate."""

    host: str
    secret: str
    request: bytes


class Joined(_Message, frozen=True, tag="joined"):
    """The host's certificate and the CA's, PEM."""

    certificate: bytes
    authority: bytes


class Refused(_Message, frozen=True, tag="refused"):
    """No certificate, and why."""

    reason: str
    hint: str


FromHost = AskAuthority | Join
FromDesk = AuthorityIs | Joined | Refused
