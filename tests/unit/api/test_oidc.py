"""Sign-ins of a real issuer on loopback, over TLS, with keys of its own: what counts, and what a stranger may try."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.requests import Request
from tests.unit.api.test_serving import _certificate

from hostward.api.serving import BearerGate
from hostward.controller.access import Role
from hostward.controller.access.oidc import Grant, Issuer, SignIns
from hostward.errors import AccessError, UsageError

GRANTS = (
    Grant("net-ops", Role.PLATFORM_OPERATOR),
    Grant("acme-dev", Role.TENANT_EDITOR, frozenset({"acme"})),
    Grant("beta-dev", Role.TENANT_EDITOR, frozenset({"beta"})),
)


class Provider:
    """Publishes its keys, counts who asks for them, and signs."""

    def __init__(self, folder: Path) -> None:
        self.place = _certificate(folder)
        self.url = f"https://127.0.0.1:{self.place.port}"
        self.keys = [RSAKey.generate_key(2048, parameters={"kid": "one"})]
        self.asked = 0
        self.discovery: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.app = FastAPI()

        @self.app.get("/.well-known/openid-configuration")
        async def discovery() -> dict[str, Any]:
            return self.discovery

        @self.app.get("/keys")
        async def keys() -> dict[str, Any]:
            self.asked += 1
            return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def claims(self, **changed: object) -> dict[str, object]:
        now = int(datetime.now(UTC).timestamp())
        good = {"iss": self.url, "aud": "hostward", "sub": "ann", "exp": now + 300, "iat": now, "groups": ["acme-dev"]}
        return {key: value for key, value in {**good, **changed}.items() if value is not None}

    def token(self, algorithm: str = "RS256", key: Any = None, **changed: object) -> str:
        signer = key or self.keys[-1]
        header = {"alg": algorithm, "kid": signer.kid}
        return jwt.encode(header, self.claims(**changed), signer, algorithms=[algorithm])

    def sign_ins(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SignIns:
        return SignIns(Issuer(self.url, "hostward", GRANTS, ca=self.place.certificate), clock)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        config = uvicorn.Config(
            self.app,
            port=self.place.port,
            ssl_certfile=self.place.certificate,
            ssl_keyfile=self.place.key,
            log_level="error",
            lifespan="off",
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())  # without its signal handlers: the test's are enough
        while not server.started:  # noqa: ASYNC110 (no event says so)
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.gather(serving, return_exceptions=True)


def with_provider(folder: Path, work: Callable[[Provider], Awaitable[None]]) -> None:
    async def run() -> None:
        provider = Provider(folder)
        async with provider.running():
            await work(provider)

    asyncio.run(run())


def test_a_good_sign_in_has_the_role_and_the_tenants_of_its_groups(tmp_path: Path) -> None:
    async def work(provider: Provider) -> None:
        sign_ins = provider.sign_ins()
        editor = await sign_ins.authenticate(provider.token(groups=["acme-dev", "beta-dev", "lunch"]))
        assert editor is not None
        assert (editor.id, editor.role, editor.tenants) == (
            "oidc:ann@127.0.0.1",
            Role.TENANT_EDITOR,
            frozenset({"acme", "beta"}),
        )
        operator = await sign_ins.authenticate(provider.token(groups=["acme-dev", "net-ops"]))
        assert operator is not None
        assert (operator.role, operator.tenants) == (Role.PLATFORM_OPERATOR, frozenset())
        with pytest.raises(AccessError, match="granted anything"):
            await sign_ins.authenticate(provider.token(groups=["lunch"]))
        assert provider.asked == 1

    with_provider(tmp_path, work)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unsigned(provider: Provider) -> str:
    return f"{_part({'alg': 'none', 'kid': 'one'})}.{_part(provider.claims())}."


def _confused(provider: Provider) -> str:
    """HMAC with the public key, which everybody has, as the secret."""
    public = provider.keys[0].public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(provider.claims())}"
    mac = hmac.digest(public, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _tampered(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    return f"{head}.{_part(provider.claims(groups=['net-ops']))}.{signature}"


BAD: dict[str, Callable[[Provider], str]] = {
    "expired": lambda p: p.token(exp=int(datetime.now(UTC).timestamp()) - 60),
    "not yet valid": lambda p: p.token(nbf=int(datetime.now(UTC).timestamp()) + 300),
    "without an end": lambda p: p.token(exp=None),
    "for somebody else": lambda p: p.token(aud="another"),
    "for nobody": lambda p: p.token(aud=None),
    "of another issuer": lambda p: p.token(iss="https://127.0.0.1:1"),
    "of nobody": lambda p: p.token(sub=None),
    "unsigned": _unsigned,
    "signed with the public key": _confused,
    "signed by a stranger": lambda p: p.token(key=RSAKey.generate_key(2048, parameters={"kid": "one"})),
    "by an unknown key": lambda p: p.token("ES256", ECKey.generate_key("P-256", parameters={"kid": "two"})),
    "tampered": _tampered,
    "no token": lambda _: "a.b.c",
    "too long": lambda _: "a." * 2 + "b" * 20_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_does_not_count(tmp_path: Path, bad: Callable[[Provider], str]) -> None:
    async def work(provider: Provider) -> None:
        sign_ins = provider.sign_ins()
        assert await sign_ins.authenticate(provider.token()) is not None  # the control
        assert await sign_ins.authenticate(bad(provider)) is None
        assert await sign_ins.authenticate(provider.token()) is not None

    with_provider(tmp_path, work)


def test_a_stranger_cannot_make_it_hammer_the_issuer(tmp_path: Path) -> None:
    async def work(provider: Provider) -> None:
        sign_ins = provider.sign_ins()
        assert await sign_ins.authenticate(provider.token()) is not None
        strange = provider.token(key=RSAKey.generate_key(2048, parameters={"kid": "strange"}))
        await asyncio.gather(*(sign_ins.authenticate(strange) for _ in range(50)))
        assert provider.asked == 1
        # A new key is found once the time is over.
        provider.keys.append(RSAKey.generate_key(2048, parameters={"kid": "two"}))
        assert await sign_ins.authenticate(provider.token()) is None
        sign_ins._fetched_s = float("-inf")
        assert await sign_ins.authenticate(provider.token()) is not None
        assert provider.asked == 2

    with_provider(tmp_path, work)


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://other.example"}, {"jwks_uri": "https://other.example/keys"}],
    ids=["issuer", "keys"],
)
def test_a_discovery_document_that_points_elsewhere_is_not_followed(tmp_path: Path, discovery: dict[str, str]) -> None:
    async def work(provider: Provider) -> None:
        provider.discovery |= discovery
        assert await provider.sign_ins().authenticate(provider.token()) is None
        assert provider.asked == 0

    with_provider(tmp_path, work)


def test_known_keys_go_on_while_the_issuer_is_away(tmp_path: Path) -> None:
    async def run() -> None:
        provider = Provider(tmp_path)
        sign_ins = provider.sign_ins()
        async with provider.running():
            assert await sign_ins.authenticate(provider.token()) is not None
        sign_ins._fetched_s = float("-inf")
        assert await sign_ins.authenticate(provider.token()) is not None
        assert await provider.sign_ins().authenticate(provider.token()) is None

    asyncio.run(run())


def test_the_gate_says_403_to_who_is_granted_nothing_and_401_to_who_is_nobody(tmp_path: Path) -> None:
    async def work(provider: Provider) -> None:
        app = FastAPI()

        @app.get("/")
        async def root(request: Request) -> str:
            return str(request.scope["hostward.principal"].id)

        refused: list[str] = []

        async def note(_: str, what: str, subject: str) -> None:
            refused.append(what)

        gate = BearerGate(app, provider.sign_ins().authenticate, note)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=gate), base_url="http://hostward") as client:
            answers = [
                (await client.get("/", headers={"Authorization": f"Bearer {token}"})).status_code
                for token in (provider.token(), provider.token(groups=[]), provider.token(aud="another"))
            ]
        assert answers == [200, 403, 401]
        assert len(refused) == 2

    with_provider(tmp_path, work)


def test_an_issuer_without_tls_and_a_grant_that_means_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="https"):
        Issuer("http://issuer.example", "hostward", GRANTS).check()
    with pytest.raises(UsageError, match="of some tenant"):
        Issuer("https://issuer.example", "hostward", (Grant("x", Role.TENANT_VIEWER),)).check()
