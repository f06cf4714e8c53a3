"""People who sign in elsewhere: a JWT of one configured issuer, checked against the keys that it publishes.

OpenID Connect Core 1.0 section 3.1.3.7 and RFC 8725: only signatures with public keys count, whatever algorithm a token
asks for; issuer and audience are compared exactly. Keys are fetched over TLS from where the issuer's discovery document
says (OpenID Connect Discovery 1.0), on the issuer's own host, and a stranger causes at most one fetch a minute.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from hostward.controller.access.principal import Authentication, Principal, Role
from hostward.controller.ledger import Clock
from hostward.errors import AccessError, UsageError

log = logging.getLogger(__name__)

# Signatures with a public key alone: a secret shared with an issuer would be one more secret, and `none` is no signature.
ALGORITHMS = ("ES256", "ES384", "PS256", "RS256", "EdDSA")
LEEWAY_S = 30
# A token of a key that is not known asks the issuer again, at most so often.
REFETCH_S = 60.0
_FETCH_LIMIT_S = 5.0
_DOCUMENT_LIMIT_BYTES = 256 * 1024
# A token is some kilobytes, also with many groups.
_TOKEN_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class Grant:
    """Who has ``value`` in the issuer's claim is of this role, for these tenants."""

    value: str
    role: Role
    tenants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whom to believe. ``claim`` holds the values that ``grants`` name; without ``ca`` the machine's own CAs count."""

    url: str
    audience: str
    grants: tuple[Grant, ...]
    claim: str = "groups"
    ca: Path | None = None

    def check(self) -> None:
        """Raises UsageError for an issuer that nobody could trust, or a grant that grants nothing."""
        if urlsplit(self.url).scheme != "https":
            raise UsageError("an issuer is reached by https", subject=self.url)
        for grant in self.grants:
            if grant.role.of_tenants is not bool(grant.tenants):
                needs = "one of some tenant" if grant.role.of_tenants else "of no tenant"
                raise UsageError(f"a {grant.role.value} is {needs}", subject=f"grant {grant.value}")


class SignIns:
    """Recognises the tokens of one issuer."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        issuer.check()
        self._issuer = issuer
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_s = float("-inf")  # on the event loop's clock
        self._fetching = asyncio.Lock()
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer.url},
            aud={"essential": True, "value": issuer.audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def authenticate(self, text: str) -> Principal | None:
        """Whose token this is; None if it does not count. Raises AccessError if it is good and grants nothing here."""
        if len(text) > _TOKEN_LIMIT or text.count(".") != 2:
            return None
        claims = self._verified(text)
        if claims is None and await self._fetch():
            claims = self._verified(text)
        return None if claims is None else self._principal(claims)

    def _verified(self, text: str) -> Mapping[str, object] | None:
        if self._keys is None:
            return None
        try:
            token = jwt.decode(text, self._keys, algorithms=ALGORITHMS)
            self._claims.validate(token.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            # Hostile text meets the library with whatever its own code runs into; whatever it is, it is no token.
            log.info("a token of %s is refused: %s", self._issuer.url, error)
            return None
        return token.claims

    def _principal(self, claims: Mapping[str, object]) -> Principal:
        held = claims.get(self._issuer.claim)
        values = {held} if isinstance(held, str) else set(held) if isinstance(held, list) else set()
        matching = [grant for grant in self._issuer.grants if grant.value in values]
        name = f"{claims['sub']}@{urlsplit(self._issuer.url).hostname}"
        if not matching:
            raise AccessError(
                f"the sign-in is good, and no value of its claim {self._issuer.claim!r} is granted anything here",
                subject=name,
                hint="a platform operator grants one under [[api.oidc.grants]]",
            )
        # The first in the operator's order decides the role; tenants are those of all grants of that role.
        role = matching[0].role
        tenants = frozenset(tenant for grant in matching if grant.role is role for tenant in grant.tenants)
        return Principal(name, Authentication.OIDC, role, tenants)

    async def _fetch(self) -> bool:
        """Fetch the issuer's keys, unless that was just done. True if there are new ones to try."""
        async with self._fetching:
            now = asyncio.get_running_loop().time()
            if now - self._fetched_s < REFETCH_S:
                return False
            self._fetched_s = now
            try:
                self._keys = await self._published()
            except (httpx2.HTTPError, OSError, ValueError, TypeError, KeyError, JoseError) as error:
                # The keys that are known go on.
                log.warning("the keys of %s cannot be fetched: %s", self._issuer.url, error)
                return False
            return True

    async def _published(self) -> KeySet:
        context = ssl.create_default_context(cafile=self._issuer.ca)
        async with httpx2.AsyncClient(verify=context, timeout=_FETCH_LIMIT_S, follow_redirects=False) as client:
            discovery = await _document(client, f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration")
            if discovery.get("issuer") != self._issuer.url:
                raise ValueError(f"its discovery document speaks for {discovery.get('issuer')!r}")
            place = str(discovery["jwks_uri"])
            if urlsplit(place)[:2] != urlsplit(self._issuer.url)[:2]:
                raise ValueError(f"its keys are said to be at {place!r}, which is another host")
            return KeySet.import_key_set(await _document(client, place))  # type: ignore[arg-type]


async def _document(client: httpx2.AsyncClient, url: str) -> dict[str, object]:
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        content = b""
        async for part in response.aiter_bytes():
            content += part
            if len(content) > _DOCUMENT_LIMIT_BYTES:
                raise ValueError(f"{url} is longer than {_DOCUMENT_LIMIT_BYTES} bytes")
    found = httpx2.Response(200, content=content).json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} is no JSON object")
    return found
