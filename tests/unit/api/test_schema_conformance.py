"""The API against its own OpenAPI document: whatever is sent, no failure of the server, and only answers it describes.

Left out of schemathesis' checks: acceptance of whatever fits the schema (whether a policy's text, a name or a revision is
right is no matter of a schema), and the links between operations, of which the document has none.
"""

from __future__ import annotations

import asyncio
import copy
import json
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.unit.api.joined import ACME, BETA, sources
from tests.unit.api.joined import Site as Joined
from tests.unit.api.joined import site as joined_site
from tests.unit.controller.lone import report

from hostward.agent.messages import Samples
from hostward.api.serving import BearerGate
from hostward.controller.access import Authentication, Principal, Role
from hostward.controller.ledger import utc_now
from hostward.model.guard import GuardEvent, GuardKind, Response
from hostward.model.sample import SampleCounts, SampleTotal

ANSWERS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS = [*ANSWERS, negative_data_rejection, ignored_auth]
EXAMPLES = 25
TOKEN = "t" * 40
OPENED = BETA.replace("rules:", "rules:\n  - allow internet to db on tcp/5432")
SCAN = GuardEvent(
    1_795_000_000_000_000_000,
    GuardKind.VERTICAL_SCAN,
    Response.THROTTLE,
    101,
    "acme/web-1",
    "acme",
    "default",
    3,
    6,
    "10.0.1.0",
    40_000,
    "10.0.1.1",
    22,
)

SAMPLED = SampleTotal("acme", 100, SampleCounts(200, 2, 0), 0, ())

# One good request for each operation, in an order in which all of them succeed: (operation, what it is asked).
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("POST /v1/plan", {"body": sources(OPENED)}),
    ("POST /v1/explain", {"body": {"source": "acme/web-1", "destination": "beta/db-1", "port": "tcp/5432"}}),
    ("POST /v1/explain", {"body": {"source": "internet", "destination": "acme/web", "port": "tcp/79-81"}}),
    ("POST /v1/explain", {"body": {"source": "10.0.1.0", "destination": "internet", "port": "tcp/80"}}),
    *((f"GET /v1/objects/{kind}", {}) for kind in ("tenants", "groups", "identities", "rules")),
    *((f"GET /v1/objects/{kind}", {}) for kind in ("endpoints", "hosts", "revisions")),
    ("GET /v1/learn", {"query": {"tenant": "acme", "include_denied": "true"}}),
    ("GET /v1/learn/unused", {}),
    ("GET /v1/flows", {}),
    ("GET /v1/samples", {}),
    ("GET /v1/alerts", {}),
    ("GET /v1/attestation", {}),
    ("POST /v1/attestation/reload", {}),
    ("POST /v1/attestation/{host}/release", {"path_parameters": {"host": "h1"}}),
    *(
        (f"GET /v1/attestation/{{host}}{part}", {"path_parameters": {"host": "h1"}})
        for part in ("", "/reference", "/result")
    ),
    ("GET /v1/whoami", {}),
    ("POST /v1/tokens", {"body": {"host": "h2"}}),
    ("POST /v1/access/tokens", {"body": {"name": "ann", "role": "tenant-viewer", "tenants": ["acme"]}}),
    ("GET /v1/access/tokens", {}),
    ("DELETE /v1/access/tokens/{name}", {"path_parameters": {"name": "ann"}}),
    ("PUT /v1/endpoints/{name}/bounds", {"path_parameters": {"name": "web-1"}, "body": {"rates": ["1Gbit/s"]}}),
    ("PUT /v1/endpoints/{name}/quarantine", {"path_parameters": {"name": "web-1"}, "body": {"reason": "incident 7"}}),
    ("DELETE /v1/endpoints/{name}/quarantine", {"path_parameters": {"name": "web-1"}}),
    ("PATCH /v1/endpoints/{name}", {"path_parameters": {"name": "web-1"}, "body": {"labels": {"tier": "1"}}}),
    (
        "POST /v1/endpoints",
        {
            "body": {
                "tenant": "acme",
                "name": "web-2",
                "device": "v9",
                "mac": "02:00:00:00:01:09",
                "addresses": ["10.0.1.9"],
            }
        },
    ),
    ("DELETE /v1/endpoints/{name}", {"path_parameters": {"name": "web-2"}}),
    ("POST /v1/apply", {"body": sources(ACME) | {"confirm_within_s": 600}}),
    ("POST /v1/confirm", {}),
    ("POST /v1/rollback/{revision}", {"path_parameters": {"revision": 2}}),
    ("DELETE /v1/tenants/{name}", {"path_parameters": {"name": "acme"}}),
    ("POST /v1/hosts/{name}/{state}", {"path_parameters": {"name": "h1", "state": "quarantined"}}),
    ("GET /v1/audit", {"query": {"limit": "3"}}),
    ("GET /v1/audit/verify", {}),
]


@dataclass
class Site:
    address: str
    document: dict[str, Any]

    def schema(self) -> schemathesis.BaseSchema:
        return schemathesis.openapi.from_dict(copy.deepcopy(self.document))

    def ask(self, case: schemathesis.Case, checks: list[Any]) -> Any:
        # A case whose headers are wrong on purpose is sent as it is.
        wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.HEADER)
        headers = {} if wrong else {"Authorization": f"Bearer {TOKEN}"}
        return case.call_and_validate(base_url=self.address, headers=headers, checks=checks, timeout=20)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A controller's API on loopback with something in it; its loop runs in a thread of its own."""
    started: queue.Queue[dict[str, Any]] = queue.Queue()
    listening = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def authenticate(token: str) -> Principal | None:
        return Principal("t", Authentication.TOKEN, Role.PLATFORM_OPERATOR) if token == TOKEN else None

    async def serve() -> None:
        async with joined_site(tmp_path, attests=True) as here:
            fleet = here.server.controller.fleet
            for source, destination, port, verdict in (
                ("203.0.113.7", "acme/web-1", 80, "allow"),
                ("acme/web-1", "203.0.113.7", 443, "deny"),
                ("203.0.113.7", "beta/db-1", 5_432, "deny"),
            ):
                report(fleet, utc_now(), source, destination, port, verdict=verdict)
            here.server.controller.alerts.add("h1", [SCAN])
            fleet.on_samples("h1", Samples([], {"acme/web-1": SAMPLED}))
            runner = here.server.controller.attestation
            assert runner is not None
            async with asyncio.timeout(20):
                while runner.attestation.standing("h1").appraisal is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await answer(here)

    async def answer(here: Joined) -> None:
        door = BearerGate(here.app, authenticate, here.server.controller.refusals.note_peer)
        server = uvicorn.Server(uvicorn.Config(door, log_level="error", lifespan="off"))
        server.install_signal_handlers = lambda: None
        running = asyncio.create_task(server.serve(sockets=[listening]))
        started.put(here.app.openapi())
        await ended.wait()
        server.should_exit = server.force_exit = True
        await running

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}", started.get(timeout=20))
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def operations(schema: schemathesis.BaseSchema) -> dict[str, Any]:
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_operation_answers_as_its_document_says(site: Site, mode: schemathesis.GenerationMode) -> None:
    found = operations(site.schema())
    for operation in found.values():

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            if case.path in ("/v1/flows", "/v1/alerts", "/v1/samples"):
                case.query = {**(case.query or {}), "follow": "false"}  # what is followed has no end
            site.ask(case, CHECKS)

        ask()
    assert len(found) == sum(len(item) for item in site.document["paths"].values())


def test_every_operation_succeeds_and_answers_as_its_document_says(site: Site) -> None:
    """What is generated seldom succeeds; this does."""
    found = operations(site.schema())
    assert {label for label, _ in GOOD} == found.keys()
    for label, parts in GOOD:
        answer = site.ask(found[label].Case(**parts), ANSWERS)
        assert answer.status_code == 200, (label, answer.text)
        assert answer.content not in (b"", b"[]"), label
        if label == "GET /v1/flows":
            # The document's schema is a line's; schemathesis looks at no line.
            line = {"$ref": "#/components/schemas/FlowLine", "components": site.document["components"]}
            lines = [json.loads(text) for text in answer.text.splitlines()]
            assert {(flow["verdict"], flow["kind"]) for flow in lines} == {("allow", "new"), ("deny", "denied")}
            for flow in lines:
                jsonschema.validate(flow, line)
        if label == "GET /v1/alerts":
            line = {"$ref": "#/components/schemas/AlertLine", "components": site.document["components"]}
            (alert,) = [json.loads(text) for text in answer.text.splitlines()]
            jsonschema.validate(alert, line)
            assert (alert["event_type"], alert["hostward"]["endpoint"]) == ("alert", "acme/web-1")


def test_every_operation_says_what_it_is_and_which_errors_it_answers(site: Site) -> None:
    for path, item in site.document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert len(operation["tags"]) == 1, path
            content = next(iter(operation["responses"]["200"]["content"].values()))
            schema = content["schema"]
            assert (schema.get("items") or schema).keys() == {"$ref"}, (method, path)
            for status, response in operation["responses"].items():
                if status != "200":
                    assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Refusal"}
            assert {"400", "401", "403"} <= operation["responses"].keys(), path
    text = str(site.document)
    assert "HTTPValidationError" not in text


def test_a_number_is_no_time(site: Site) -> None:
    flows = operations(site.schema())["GET /v1/flows"]
    for since, status in (("5763", 400), ("2026-05-04T12:00:00Z", 200), ("2026-05-04T12:00:00", 400)):
        assert site.ask(flows.Case(query={"since": since}), ANSWERS).status_code == status, since


def answers_of(site: Site) -> list[tuple[str, str]]:
    """Every schema and field that an answer can have."""
    return [
        (name, field)
        for name, schema in site.document["components"]["schemas"].items()
        if schema.get("additionalProperties") is False
        for field in schema.get("properties", {})
    ]


@pytest.mark.parametrize(
    ("label", "schema", "field"),
    [
        ("GET /v1/whoami", "Me", "role"),
        ("GET /v1/objects/endpoints", "EndpointRow", "flows"),
        ("GET /v1/audit", "AuditRow", "hash"),
        ("POST /v1/explain", "ExplanationAnswer", "lost"),
    ],
)
def test_an_answer_that_is_not_as_described_is_noticed(site: Site, label: str, schema: str, field: str) -> None:
    """The control: with the document changed in one place, the same request fails."""
    assert (schema, field) in answers_of(site)
    parts = next(parts for name, parts in GOOD if name == label)
    site.ask(operations(site.schema())[label].Case(**parts), ANSWERS)
    described = site.document["components"]["schemas"][schema]
    described["properties"] = {key: value for key, value in described["properties"].items() if key != field}
    described["required"] = [key for key in described["required"] if key != field]
    with pytest.raises(FailureGroup):
        site.ask(operations(site.schema())[label].Case(**parts), ANSWERS)


def test_nobody_orders_a_host_untrusted(site: Site) -> None:
    """Its evidence alone makes it so."""
    move = operations(site.schema())["POST /v1/hosts/{name}/{state}"]
    for state, status in (("untrusted", 400), ("quarantined", 200)):
        assert site.ask(move.Case(path_parameters={"name": "h1", "state": state}), ANSWERS).status_code == status
