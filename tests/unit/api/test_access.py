"""The API for several people: each sees and changes only their own, and every refusal of a change is on record."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import APIRoute
from tests.unit.api.joined import ACME, BETA, gate, site, sources

from hostward.api.asking import Asks

SECRETS = ("role=db", "role=hidden", "secret", "tcp/5432", "beta/db-1", "never internet")


def test_every_operation_asks_for_an_action(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            routes = {
                (method, route.path): [d.call for d in route.dependant.dependencies if isinstance(d.call, Asks)]
                for route in here.app.routes
                if isinstance(route, APIRoute)
                for method in route.methods
            }
            assert {key for key, asked in routes.items() if len(asked) != 1} == set()
            document = here.app.openapi()["paths"]
            assert {(m.upper(), path) for path, item in document.items() for m in item} <= routes.keys() | {
                (m, p.replace(":path", "")) for m, p in routes
            }
            # Straight to the application, past both doors: nobody is nobody.
            async with httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app=here.app), base_url="http://hostward"
            ) as client:
                assert (await client.get("/v1/whoami")).status_code == 403

    asyncio.run(run())


def test_a_tenants_people_see_only_their_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-viewer", "acme")
            seen = []
            for kind in ("tenants", "groups", "identities", "endpoints", "rules", "revisions"):
                status, answer = await here.ask(acme, "GET", f"/v1/objects/{kind}")
                assert (status, bool(answer)) == (200, True), kind
                seen.append(str(answer))
            status, answer = await here.ask(acme, "POST", "/v1/plan", sources(ACME.replace("80", "81")))
            assert status == 200
            assert [change["rule"] for change in answer["changes"]] != []
            seen.append(str(answer))
            question = {"source": "acme/web-1", "destination": "beta/db", "port": "tcp/5432"}
            status, answer = await here.ask(acme, "POST", "/v1/explain", question)
            assert status == 200
            seen.append(str(answer).replace("'beta/", "'"))
            status, answer = await here.ask(acme, "GET", "/v1/flows")
            assert (status, answer) == (200, "")
            leaked = [(secret, text) for secret in SECRETS for text in seen if secret in text]
            assert leaked == []
            # The control: the operator is told all of it.
            whole = str([await here.ask("", "GET", f"/v1/objects/{kind}") for kind in ("groups", "rules", "endpoints")])
            assert [secret for secret in SECRETS[:-1] if secret not in whole] == []
            for path in ("/v1/objects/hosts", "/v1/audit", "/v1/access/tokens"):
                assert (await here.ask(acme, "GET", path))[0] == 403

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/tenants/{}", None),
        ("DELETE", "/v1/endpoints/{}/db-1", None),
        ("PATCH", "/v1/endpoints/{}/db-1", {"labels": {"role": "x"}}),
        ("POST", "/v1/explain", {"source": "web-1", "destination": "{}/secret", "port": "tcp/1"}),
        ("POST", "/v1/explain", {"source": "web-1", "destination": "{}/db-1", "port": "tcp/1"}),
        ("POST", "/v1/apply", {"sources": [{"file": "f", "text": "tenant: {}\n"}]}),
    ],
)
def test_forbidden_and_missing_look_alike(tmp_path: Path, method: str, path: str, body: object) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-editor", "acme")
            answers = []
            for name in ("beta", "none"):
                named = None if body is None else json.loads(json.dumps(body).replace("{}", name))
                status, answer = await here.ask(acme, method, path.replace("{}", name), named)
                assert status in (403, 404), answer
                answers.append((status, str(answer).replace(name, "NAME")))
            assert answers[0] == answers[1]

    asyncio.run(run())


def test_an_editor_changes_their_own_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-editor", "acme")
            ledger = here.server.controller.ledger
            before = ledger.state.revision
            strong = "platform:\n  rules: [allow any to any]\n"
            taken = {"tenant": "acme", "name": "w2", "device": "v1", "addresses": ["10.0.1.9"]}
            refused = [
                ("POST", "/v1/apply", sources(ACME, BETA), 403),
                ("POST", "/v1/apply", sources(strong), 403),
                ("POST", "/v1/plan", sources(BETA), 403),
                ("POST", "/v1/apply", sources(ACME) | {"confirm_within_s": 60}, 403),
                ("POST", "/v1/rollback/1", None, 403),
                ("POST", "/v1/confirm", None, 403),
                ("POST", "/v1/tokens", {}, 403),
                ("POST", "/v1/hosts/h1/evicted", None, 403),
                ("POST", "/v1/access/tokens", {"name": "b", "role": "platform-operator"}, 403),
                ("POST", "/v1/endpoints", taken | {"tenant": "beta"}, 403),
                ("POST", "/v1/endpoints", taken, 409),
            ]
            for method, path, body, expected in refused:
                status, answer = await here.ask(acme, method, path, body)
                assert status == expected, (path, answer)
                assert "db-1" not in str(answer)
            assert ledger.state.revision == before
            log = await ledger.audit(0, 1_000)
            mine = [r.entry for r in log if r.entry.who == "token:a"]
            assert [(entry.result.value, entry.count) for entry in mine] == [("refused", 1)] * len(mine)
            assert sorted(entry.action for entry in mine) == [
                "add-endpoint",
                "apply",
                "change-access",
                "confirm",
                "enrol-host",
                "move-host",
                "plan",
                "rollback",
            ]
            status, answer = await here.ask(acme, "POST", "/v1/apply", sources(ACME.replace("80", "81")))
            assert status == 200, answer
            assert (await here.ask(acme, "PATCH", "/v1/endpoints/web-1", {"labels": {"x": "y"}}))[0] == 200
            log = await ledger.audit(0, 1_000)
            last = log[-1]
            assert (last.entry.who, last.entry.objects) == ("token:a", ("endpoint acme/web-1",))
            assert (last.revision_before, last.revision_after) == (before + 1, before + 2)
            assert log[-2].entry.objects == ("tenant acme",)
            assert (await ledger.revisions(1))[0].author == "token:a"
            auditor = await here.token("aud", "auditor")
            status, answer = await here.ask(auditor, "GET", "/v1/audit/verify")
            assert (status, answer["head"]) == (200, (await ledger.verify_audit()).head)
            assert (await here.ask(auditor, "POST", "/v1/apply", sources(ACME)))[0] == 403
            assert (await here.ask("", "DELETE", "/v1/access/tokens/a"))[0] == 200
            assert (await here.ask(acme, "GET", "/v1/whoami"))[0] == 401

    asyncio.run(run())


def test_a_header_names_nobody_beyond_the_socket(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            token = await here.token("a", "tenant-viewer", "acme")
            app = gate(here.app, here.server.controller)
            headers = {"Authorization": f"Bearer {token}", "Hostward-Author": "root"}
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://h") as client:
                assert (await client.get("/v1/whoami", headers=headers)).json() == {
                    "name": "token:a",
                    "role": "tenant-viewer",
                    "tenants": ["acme"],
                }
            assert (await here.ask("", "GET", "/v1/whoami"))[1]["name"] == "socket:root"

    asyncio.run(run())


def test_only_an_operator_bounds_an_endpoint(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:

            async def row() -> tuple[int, list[str]]:
                _, rows = await here.ask("", "GET", "/v1/objects/endpoints")
                (found,) = [row for row in rows if row["id"] == "acme/web-1"]
                return found["flow_quota"], found["rates"]

            editor = await here.token("a", "tenant-editor", "acme")
            before = await row()
            wanted = {"rates": ["1Gbit/s", "500conn/s"]}
            assert (await here.ask(editor, "PUT", "/v1/endpoints/web-1/bounds", wanted))[0] == 403
            more = {"tenant": "acme", "name": "more", "device": "v9", "flows": 1_000_000}
            assert (await here.ask(editor, "POST", "/v1/endpoints", more))[0] == 403
            assert await row() == before
            assert (await here.ask("", "PUT", "/v1/endpoints/web-1/bounds", wanted))[0] == 200
            assert await row() == (before[0], ["1Gbit/s", "500conn/s"])
            for wrong in (["1Gbit/s", "2Gbit/s"], ["7bit/s"], ["fast"]):
                status, answer = await here.ask("", "PUT", "/v1/endpoints/web-1/bounds", {"rates": wrong})
                assert status in (400, 422), answer
            assert await row() == (before[0], ["1Gbit/s", "500conn/s"])
            assert (await here.ask("", "PUT", "/v1/endpoints/web-1/bounds", {"rates": []}))[0] == 200
            assert await row() == before

    asyncio.run(run())


def test_an_editor_attaches_only_the_devices_that_its_tenant_was_given(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-editor", "acme", "beta")
            wanted = {"tenant": "acme", "name": "w2", "mac": "02:00:00:00:02:01", "addresses": ["10.0.2.1"]}
            before = here.server.controller.ledger.state.revision
            for device, netns in (("tap-beta-1", ""), ("x-tap-acme-1", ""), ("tap-acme-1", "red"), ("any", "")):
                body = wanted | {"device": device, "netns": netns}
                status, answer = await here.ask(acme, "POST", "/v1/endpoints", body)
                assert (status, "may not attach this device" in str(answer)) == (403, True), (device, netns)
            # Of one tenant's devices none is another's, though both are this editor's.
            other = wanted | {"tenant": "beta", "device": "tap-acme-1"}
            assert (await here.ask(acme, "POST", "/v1/endpoints", other))[0] == 403
            assert here.server.controller.ledger.state.revision == before
            assert (await here.ask(acme, "POST", "/v1/endpoints", wanted | {"device": "tap-acme-1"}))[0] == 200
            inside = {"tenant": "acme", "name": "w3", "mac": "02:00:00:00:02:02", "addresses": ["10.0.2.2"]}
            assert (await here.ask(acme, "POST", "/v1/endpoints", inside | {"device": "e0", "netns": "blue"}))[0] == 200
            # The control: the platform's operator may attach any.
            free = {"tenant": "acme", "name": "w4", "mac": "02:00:00:00:02:03", "addresses": ["10.0.2.3"]}
            assert (await here.ask("", "POST", "/v1/endpoints", free | {"device": "any"}))[0] == 200

    asyncio.run(run())


def test_an_editor_may_quarantine_and_not_release_nor_attach_anew(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as here:
            acme = await here.token("a", "tenant-editor", "acme")
            # The control: what is not quarantined goes.
            more = {"tenant": "acme", "name": "w2", "device": "tap-acme-1", "mac": "02:00:00:00:02:01"}
            assert (await here.ask(acme, "POST", "/v1/endpoints", more | {"addresses": ["10.0.2.1"]}))[0] == 200
            assert (await here.ask(acme, "DELETE", "/v1/endpoints/w2"))[0] == 200
            quarantine = "/v1/endpoints/web-1/quarantine"
            assert (await here.ask(acme, "PUT", quarantine, {"reason": "it scans"}))[0] == 200
            assert (await here.ask(acme, "DELETE", quarantine))[0] == 403
            status, answer = await here.ask(acme, "DELETE", "/v1/endpoints/web-1")
            assert (status, "quarantined" in str(answer)) == (409, True)
            assert (await here.ask("", "DELETE", quarantine))[0] == 200
            assert (await here.ask(acme, "DELETE", "/v1/endpoints/web-1"))[0] == 200

    asyncio.run(run())
