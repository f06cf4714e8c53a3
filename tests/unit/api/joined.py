"""A controller with one host that has joined and enforces in memory, two tenants, and both doors of its API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from tests.unit.controller.attesting import SoftwareTpm, attesting_to, trust_folder
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent.daemon import Agent, AgentSettings
from hostward.agent.join import join
from hostward.agent.join_token import parse_join_token
from hostward.agent.limits import Limits
from hostward.api.app import make_app
from hostward.api.asking import SocketDoor
from hostward.api.serving import Authenticate, BearerGate
from hostward.controller.access import AccessTokens, Principal
from hostward.controller.access.devices import DeviceGrants
from hostward.controller.attestation.settings import AttestationMode, AttestationSettings
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.controller.service import Controller

ACME = "tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"
BETA = """tenant: beta
groups: {db: role=db, secret: role=hidden}
exports: [db]
rules:
  - allow tenant acme/web to db on tcp/5432
assertions: [never internet to db]
"""
DEVICES = DeviceGrants({"acme": ["v1", "tap-acme-*", "blue/*"]})


def known_to(tokens: AccessTokens) -> Authenticate:
    async def authenticate(text: str) -> Principal | None:
        return tokens.authenticate(text)

    return authenticate


def gate(app: FastAPI, controller: Controller) -> BearerGate:
    """The door of who comes over TLS."""
    return BearerGate(app, known_to(controller.access), controller.refusals.note_peer)


@dataclass
class Site:
    app: FastAPI
    server: ControllerServer

    async def ask(self, token: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Over the socket without a token, else over what TLS callers reach."""
        app = gate(self.app, self.server.controller) if token else SocketDoor(self.app)
        headers = {"Authorization": f"Bearer {token}"} if token else {"Hostward-Author": "root"}
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://hostward") as client:
            answer = await client.request(method, path, json=body, headers=headers)
            return answer.status_code, answer.text if path.startswith("/v1/flows") else answer.json()

    async def token(self, name: str, role: str, *tenants: str) -> str:
        body = {"name": name, "role": role, "tenants": tenants}
        status, answer = await self.ask("", "POST", "/v1/access/tokens", body)
        assert status == 200, answer
        return str(answer["token"])


def sources(*texts: str) -> dict[str, object]:
    return {"sources": [{"file": "beta.yaml", "text": text} for text in texts]}


@contextlib.asynccontextmanager
async def site(folder: Path, *, attests: bool = False) -> AsyncIterator[Site]:
    """``attests``: the host has a TPM of software keys, and its evidence is looked at in audit mode."""
    tpm = SoftwareTpm()
    audits = AttestationSettings(trust_folder(folder / "trust", tpm), AttestationMode.AUDIT) if attests else None
    server = ControllerServer(
        ControllerSettings(folder / "controller", "127.0.0.1", 0, 0, devices=DEVICES, attestation=audits)
    )
    controller = await server.start()
    address = "{}:{}".format(*server.enrolment_address)
    identity = await join(
        address, parse_join_token(str(await controller.membership.make_token("h1"))), "h1", folder / "h1"
    )
    settings = AgentSettings("{}:{}".format(*server.channel_address), folder / "h1", Limits())
    agent = asyncio.create_task(Agent(settings, identity, ModelEnforcer()).run())
    try:
        while "h1" not in controller.fleet.connected():
            await asyncio.wait_for(controller.fleet.next_progress(), 5)
        here = Site(make_app(controller), server)
        assert (await here.ask("", "POST", "/v1/apply", sources(ACME, BETA)))[0] == 200
        for number, (tenant, name, role) in enumerate((("acme", "web-1", "web"), ("beta", "db-1", "db"))):
            body = {"tenant": tenant, "name": name, "labels": {"role": role}, "device": f"v{number}"}
            body |= {"mac": f"02:00:00:00:01:0{number}", "addresses": [f"10.0.1.{number}"]}
            status, answer = await here.ask("", "POST", "/v1/endpoints", body)
            assert status == 200, answer
        if attests:
            async with attesting_to(server, folder / "h1", identity, tpm):
                yield here
        else:
            yield here
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
        await server.stop()
