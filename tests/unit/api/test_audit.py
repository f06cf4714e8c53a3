"""The audit log over the API: in pages, whole when verified, with every door that was tried."""

from __future__ import annotations

from pathlib import Path

import httpx2
from tests.unit.controller.lone import Lone, lone, run

from hostward.api.app import make_app
from hostward.api.asking import SocketDoor
from hostward.api.serving import BearerGate
from hostward.controller.access import Principal
from hostward.store.audit import verify
from hostward.store.records import AuditEntry, AuditResult

ACME = "tenant: acme\ngroups: {web: role=web}\nrules: [allow internet to web on tcp/80]\n"
BETA = "tenant: beta\n"


def entries(here: Lone) -> list[AuditEntry]:
    return [record.entry for record in here.store.audit(0, 10_000)]


class Doors:
    """Both ways to one controller."""

    def __init__(self, here: Lone) -> None:
        self._app = make_app(here.controller)
        self._here = here

    async def ask(self, path: str, token: str | None = None, body: object = None) -> tuple[int, dict[str, object]]:
        access, refusals = self._here.controller.access, self._here.controller.refusals

        async def authenticate(text: str) -> Principal | None:
            return access.authenticate(text)

        door = SocketDoor(self._app) if token is None else BearerGate(self._app, authenticate, refusals.note_peer)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx2.ASGITransport(app=door, client=("192.0.2.7", 4_711))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hostward") as client:
            answer = await client.request("POST" if body else "GET", path, json=body, headers=headers)
            return answer.status_code, answer.json()

    async def token(self, name: str, role: str, *tenants: str) -> str:
        _, made = await self.ask("/v1/access/tokens", body={"name": name, "role": role, "tenants": tenants})
        return str(made["token"])


def test_pages_are_the_whole_log_once(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path)
        for number in range(1_205):
            here.store.put_audit(AuditEntry(here.clock(), "t", "apply", (), f"{number}", AuditResult.REFUSED))
        doors = Doors(here)
        names: list[str] = []
        after, sizes = 0, []
        while after is not None:
            status, page = await doors.ask(f"/v1/audit?after={after}&limit=400")
            assert status == 200
            names += [row["name"] for row in page["records"]]
            sizes.append(len(page["records"]))
            after = page["next"]
        assert (names, sizes) == ([str(number) for number in range(1, 1_207)], [400, 400, 400, 6])
        # Exactly at the end there is no empty page to ask for.
        assert (await doors.ask("/v1/audit?after=806&limit=400"))[1]["next"] is None
        assert (await doors.ask("/v1/audit?after=805&limit=400"))[1]["next"] == 1_205
        assert (await doors.ask("/v1/audit?after=5000"))[1] == {"records": [], "next": None}
        assert len((await doors.ask("/v1/audit"))[1]["records"]) == 200
        for wrong in ("limit=0", "limit=1001", "after=-1", "after=x"):
            assert (await doors.ask(f"/v1/audit?{wrong}"))[0] == 400, wrong
        whole = verify(here.store.audit(0, 10_000))
        assert (await doors.ask("/v1/audit/verify"))[1] == {"head": whole.head, "records": 1_206}

    run(work())


def test_verification_reads_beyond_the_first_page(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path)
        for number in range(1_500):
            here.store.put_audit(AuditEntry(here.clock(), "t", "apply", (), f"{number}", AuditResult.REFUSED))
        doors = Doors(here)
        assert (await doors.ask("/v1/audit/verify"))[0] == 200
        del here.store._audit[1_400]
        status, refusal = await doors.ask("/v1/audit/verify")
        assert (status, "record 1401 is missing" in str(refusal["what"])) == (409, True)

    run(work())


def test_a_read_that_is_refused_is_on_record_and_one_that_is_allowed_is_not(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, policy=ACME)
        doors = Doors(here)
        viewer = await doors.token("v", "tenant-viewer", "acme")
        before = len(entries(here))
        for path in ("/v1/objects/rules", "/v1/objects/endpoints", "/v1/whoami"):
            assert (await doors.ask(path, viewer))[0] == 200
        assert len(entries(here)) == before
        assert (await doors.ask("/v1/audit", viewer))[0] == 403
        plan = {"sources": [{"file": "beta.yaml", "text": BETA}]}
        assert (await doors.ask("/v1/plan", viewer, plan))[0] == 403
        told = [(e.who, e.action, e.objects, e.result, e.count) for e in entries(here)[before:]]
        assert told == [
            ("token:v", "read-audit", (), AuditResult.REFUSED, 1),
            ("token:v", "plan", ("tenant beta",), AuditResult.REFUSED, 1),
        ]
        # What does not exist for them, and what they mistyped, is no try at a door.
        assert (await doors.ask("/v1/objects/nothing", viewer))[0] == 404
        assert (await doors.ask("/v1/plan", viewer, {"sources": [{"file": "f", "text": "tenant: ["}]}))[0] == 422
        assert len(entries(here)) == before + 2

    run(work())


def test_a_flood_of_logins_and_of_refused_changes_is_two_records_each(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, policy=ACME)
        doors = Doors(here)
        editor = await doors.token("e", "tenant-editor", "acme")
        before = len(entries(here))
        for number in range(60):
            assert (await doors.ask("/v1/whoami", f"wrong-{number}"))[0] == 401
            body = {"sources": [{"file": "f", "text": f"tenant: t{number}\n"}]}
            assert (await doors.ask("/v1/apply", editor, body))[0] == 403
        assert len(entries(here)) == before + 2
        await here.controller.stop()
        told = sorted((e.who, e.action, e.count) for e in entries(here)[before:])
        assert told == [
            ("peer:192.0.2.7", "log-in", 1),
            ("peer:192.0.2.7", "log-in", 59),
            ("token:e", "apply", 1),
            ("token:e", "apply", 59),
        ]
        assert "wrong-" not in str(entries(here))  # a token mistyped is nearly a token
        assert verify(here.store.audit(0, 1_000)).records == before + 4

    run(work())
