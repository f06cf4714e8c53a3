"""When a join token may be redeemed: one answer for every store."""

from __future__ import annotations

from datetime import datetime

from hostward.errors import EnrolmentError
from hostward.store.records import TokenRecord

_ASK_FOR_ANOTHER = "ask the operator for a new one: hostward host token"


def check_redeemable(token: TokenRecord | None, host: str, now: datetime) -> TokenRecord:
    """Return ``token`` if ``host`` may redeem it at ``now``, else raise EnrolmentError with the reason."""
    if token is None:
        raise EnrolmentError("the join token is not known", subject=host, hint=_ASK_FOR_ANOTHER)
    if token.used_by:
        raise EnrolmentError(f"the join token was already used by {token.used_by}", subject=host, hint=_ASK_FOR_ANOTHER)
    if now >= token.expires:
        raise EnrolmentError(
            f"the join token expired at {token.expires.isoformat()}", subject=host, hint=_ASK_FOR_ANOTHER
        )
    if token.host and token.host != host:
        raise EnrolmentError(f"the join token is bound to host {token.host}", subject=host, hint=_ASK_FOR_ANOTHER)
    return token
