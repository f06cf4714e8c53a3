"""The API against its own OpenAPI document: whatever is sent, no failure of the server, and only answers it describes."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from hostward.api.app import make_app
from hostward.api.asking import SocketDoor
from hostward.controller.server import ControllerServer, ControllerSettings

CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)
EXAMPLES = 25


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, FastAPI]]:
    """A controller's API on loopback, every caller its operator; its loop runs in a thread of its own."""
    started: queue.Queue[FastAPI] = queue.Queue()
    listening = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        controller_server = ControllerServer(ControllerSettings(tmp_path / "controller", "127.0.0.1", 0, 0))
        app = make_app(await controller_server.start())
        server = uvicorn.Server(uvicorn.Config(SocketDoor(app), log_level="error", lifespan="off"))
        server.install_signal_handlers = lambda: None
        running = asyncio.create_task(server.serve(sockets=[listening]))
        started.put(app)
        await ended.wait()
        server.should_exit = server.force_exit = True
        await running
        await controller_server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", started.get(timeout=20)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_every_operation_answers_as_its_document_says(site: tuple[str, FastAPI]) -> None:
    address, app = site
    schema = schemathesis.openapi.from_dict(app.openapi())
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            if case.path == "/v1/flows":
                case.query = {**(case.query or {}), "follow": "false"}  # what is followed has no end
            case.call_and_validate(base_url=address, checks=list(CHECKS), timeout=20)

        ask()
        asked += 1
    assert asked == sum(len(item) for item in app.openapi()["paths"].values())
