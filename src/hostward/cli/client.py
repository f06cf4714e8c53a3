"""The command line's way to a controller: HTTP over its Unix socket, or over TLS with a token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hostward.cli.logins import login_for
from hostward.cli.progress import waiting
from hostward.errors import ChannelError, HostwardError, PolicyError, Problem, UsageError

_LOG_IN = "log in again with a token that counts: hostward login --server URL --token @FILE"


class RefusedError(HostwardError):
    """The controller refused; the text is its own."""

    def __init__(self, what: str, subject: str, hint: str, status: int) -> None:
        super().__init__(what, subject=subject, hint=hint)
        self.exit_status = 2 if status in (400, 422) and not subject else 1


class Client:
    """One controller, over its Unix socket or over TLS."""

    def __init__(self, server: str) -> None:
        import httpx2

        login = login_for(server)
        self._server = login.server
        if login.remote:
            import ssl

            try:
                trusted = ssl.create_default_context(cafile=login.ca or None)
            except OSError as error:
                raise UsageError(f"the CA cannot be read: {error}", subject=login.ca) from error
            headers = {"Authorization": f"Bearer {login.token}"}
            self._http = httpx2.Client(base_url=login.server, verify=trusted, timeout=60.0, headers=headers)
            return
        transport = httpx2.HTTPTransport(uds=login.server.removeprefix("unix://"))
        # Who asks, for the history; the socket alone decides whether they may.
        author = os.environ.get("SUDO_USER") or os.environ.get("USER") or "operator"
        headers = {"Hostward-Author": author} if re.fullmatch(r"[\w.@+-]{1,64}", author, re.ASCII) else {}
        self._http = httpx2.Client(transport=transport, base_url="http://hostward", timeout=60.0, headers=headers)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 (JSON)
        """One request; the decoded answer. Raises what the controller refused it with."""
        import httpx2

        try:
            with waiting("waiting for the controller and its hosts"):
                response = self._http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise _refused(response.status_code, response.json())
        return response.json()

    def lines(self, path: str, parameters: Mapping[str, str]) -> Iterator[str]:
        """The lines of a stream."""
        import httpx2

        try:
            with self._http.stream("GET", path, params=parameters, timeout=None) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _refused(response.status_code, response.json())
                yield from response.iter_lines()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ChannelError:
        return ChannelError(
            f"no controller answers: {error}",
            subject=self._server,
            hint="start one with `hostward up` or `hostward controller`, or name its socket or URL with --server",
        )


def _refused(status: int, body: Any) -> HostwardError:  # noqa: ANN401 (JSON)
    if not isinstance(body, dict) or "what" not in body:
        detail = body.get("detail") if isinstance(body, dict) else body
        parts = detail if isinstance(detail, list) else [detail]
        return UsageError("; ".join(map(_detail, parts)))
    if body["problems"]:
        return PolicyError(tuple(Problem(**problem) for problem in body["problems"]))
    hint = _LOG_IN if status == 401 else body["hint"]
    return RefusedError(body["what"], body["subject"], hint, status)


def _detail(part: Any) -> str:  # noqa: ANN401 (JSON)
    if not isinstance(part, dict):
        return str(part)
    return f"{'.'.join(map(str, part.get('loc', ())[1:]))}: {part.get('msg')}"


def read_sources(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Policy files as the API takes them. Raises UsageError, and PolicyError for one that is not text."""
    return [{"file": file, "text": _as_text(file, content)} for file, content in read_files(paths)]


def _as_text(file: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line_start = content.rfind(b"\n", 0, error.start) + 1
        line, column = content.count(b"\n", 0, error.start) + 1, error.start - line_start + 1
        problem = Problem(file, line, column, "this byte is not UTF-8", "save the file as UTF-8")
        raise PolicyError((problem,)) from error


def read_files(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Policy files as bytes, a folder standing for the *.yaml in it. Raises UsageError."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.yaml"))
            if not found:
                raise UsageError("there is no *.yaml in this folder", subject=str(path))
            files += found
        else:
            files.append(path)
    try:
        return [(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", subject=str(error.filename)) from error
