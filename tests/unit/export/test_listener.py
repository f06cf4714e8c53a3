"""The door to the metrics: one path, bounded in time, in clients and in what it reads, open to who has the token."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from hostward.export.metrics import listener as module
from hostward.export.metrics.listener import CLIENTS_LIMIT, MetricsDoor, MetricsListener

TOKEN = "t" * 40


async def _page(accept: str) -> tuple[bytes, str]:
    return f"up 1\n# {accept}\n".encode(), "text/plain"


async def _ask(port: int, head: str, context: ssl.SSLContext | None = None) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


def _get(path: str = "/metrics", *headers: str) -> str:
    return "\n".join((f"GET {path} HTTP/1.1", "host: x", *headers))


def _with(
    work: Callable[[MetricsListener, int], Awaitable[None]],
    door: MetricsDoor | None = None,
    source: module.Source = _page,
) -> None:
    async def run() -> None:
        listening = MetricsListener(door or MetricsDoor("127.0.0.1", 0), source)
        await listening.start()
        try:
            await asyncio.wait_for(work(listening, listening.address[1]), 30)
        finally:
            await listening.close()

    # The loop that the daemons run on.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _status(answer: str) -> int:
    return int(answer.split()[1])


def test_one_path_is_served_and_is_only_read() -> None:
    async def work(_: MetricsListener, port: int) -> None:
        answer = await _ask(port, _get("/metrics?x=1", "Accept: text/x"))
        assert _status(answer) == 200
        assert answer.endswith("up 1\n# text/x\n")
        for path in ("/", "/metrics/", "/metricsx", "//metrics", "/../metrics", "/v1/objects/hosts"):
            assert _status(await _ask(port, _get(path))) == 404, path
        assert _status(await _ask(port, "POST /metrics HTTP/1.1\nhost: x")) == 405
        for wrong in ("", "GET", "GET /metrics", "GET /metrics FTP/1", "\x16\x03\x01 a b"):
            assert _status(await _ask(port, wrong)) == 400, wrong

    _with(work)


def test_the_token_is_asked_for_before_anything_is_told() -> None:
    async def work(_: MetricsListener, port: int) -> None:
        for wrong in (
            (),
            (f"Authorization: {TOKEN}",),
            (f"Authorization: Bearer {TOKEN}x",),
            ("Authorization: Bearer",),
        ):
            for path in ("/metrics", "/elsewhere"):
                answer = await _ask(port, _get(path, *wrong))
                assert _status(answer) == 401
                assert "up 1" not in answer
        assert _status(await _ask(port, _get("/metrics", f"Authorization: Bearer {TOKEN}"))) == 200

    _with(work, MetricsDoor("127.0.0.1", 0, token=TOKEN))


def test_tls_is_spoken_where_there_is_a_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subject = ("-subj", "/CN=h", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )

    async def work(_: MetricsListener, port: int) -> None:
        context = ssl.create_default_context(cafile=certificate)
        assert _status(await _ask(port, _get(), context)) == 200
        # In plain nothing is told, and the door goes on.
        plain = await asyncio.gather(_ask(port, _get()), return_exceptions=True)
        assert "up 1" not in str(plain)
        assert _status(await _ask(port, _get(), context)) == 200

    _with(work, MetricsDoor("127.0.0.1", 0, certificate, key))


def test_who_asks_for_too_much_or_dawdles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_LIMIT_S", 0.2)

    async def work(_: MetricsListener, port: int) -> None:
        # The answer may be lost to what was sent and not read.
        (much,) = await asyncio.gather(_ask(port, _get("/metrics", "x: " + "y" * 200_000)), return_exceptions=True)
        assert "up 1" not in str(much)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")  # and never the end of it
        assert await reader.read() == b""
        writer.close()
        assert _status(await _ask(port, _get())) == 200

    _with(work)


def test_a_client_that_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_S", 0.2)

    asked = asyncio.Event()

    async def large(_: str) -> tuple[bytes, str]:
        asked.set()
        return b"x" * 64_000_000, "text/plain"

    async def work(_: MetricsListener, port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        writer.write(_get().replace("\n", "\r\n").encode() + b"\r\n\r\n")
        await asked.wait()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if "_serve" in repr(task.get_coro())))
        writer.transport.abort()

    _with(work, source=large)


def test_many_at_once_are_turned_away_and_those_before_are_served() -> None:
    release, full = asyncio.Event(), asyncio.Event()
    arrived = 0

    async def slow(accept: str) -> tuple[bytes, str]:
        nonlocal arrived
        arrived += 1
        if arrived == CLIENTS_LIMIT:
            full.set()
        await release.wait()
        return await _page(accept)

    async def work(_: MetricsListener, port: int) -> None:
        waiting = [asyncio.create_task(_ask(port, _get())) for _ in range(CLIENTS_LIMIT)]
        await full.wait()
        (turned_away,) = await asyncio.gather(_ask(port, _get()), return_exceptions=True)
        assert isinstance(turned_away, ConnectionError) or not turned_away
        assert arrived == CLIENTS_LIMIT
        release.set()
        assert {_status(answer) for answer in await asyncio.gather(*waiting)} == {200}
        assert _status(await _ask(port, _get())) == 200

    _with(work, source=slow)


def test_a_page_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_S", 0.1)

    async def never(_: str) -> tuple[bytes, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def work(_: MetricsListener, port: int) -> None:
        assert _status(await _ask(port, _get())) == 500

    _with(work, source=never)


def test_what_cannot_be_read_is_said_and_the_door_stays_open() -> None:
    async def failing(_: str) -> tuple[bytes, str]:
        raise OSError("secret detail")

    async def work(_: MetricsListener, port: int) -> None:
        for _ in range(2):
            answer = await _ask(port, _get())
            assert _status(answer) == 500
            assert "secret" not in answer

    _with(work, source=failing)
