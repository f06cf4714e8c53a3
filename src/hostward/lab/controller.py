"""The lab's controller: started in its namespace, spoken to by its Unix socket as any client does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from hostward.errors import ChannelError, HostwardError
from hostward.lab.host import hostward_command
from hostward.lab.network import CONTROLLER_ADDRESS, enter
from hostward.lab.processes import Started, launch
from hostward.lab.state import LabState

CHANNEL_PORT = 7443
ENROLMENT_PORT = 7444
# How often a thing that sends no event is looked at.
_LOOK_S = 0.02
# A process that ended is noticed at once; only a slow machine, such as an emulated one, waits for so long.
_START_LIMIT_S = 180.0


def start_controller(state: LabState, settings: str = "") -> Started:
    """Start the controller; it is not necessarily ready yet. ``settings`` is more of its configuration, in TOML."""
    config = state.folder / "controller.toml"
    config.write_text(
        f'state = "{state.folder}/controller"\nsocket = "{state.api}"\naddress = "{CONTROLLER_ADDRESS}"\n'
        f"channel_port = {CHANNEL_PORT}\nenrolment_port = {ENROLMENT_PORT}\n{settings}"
    )
    return start_controller_again(state)


def start_controller_again(state: LabState) -> Started:
    """Start the controller as it was configured."""
    config = state.folder / "controller.toml"
    command = [*enter(state.namespace("controller")), *hostward_command("controller", "--config", str(config))]
    return launch(command, state.folder / "controller.log")


class Operator:
    """What an operator does to the lab's controller, over its REST API."""

    def __init__(self, api: Path) -> None:
        transport = httpx2.HTTPTransport(uds=str(api))
        headers = {"Hostward-Author": "lab"}
        self._http = httpx2.Client(transport=transport, base_url="http://hostward", headers=headers, timeout=60.0)
        self._api = api

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 (JSON)
        """One request. Raises HostwardError with the controller's own words."""
        try:
            response = self._http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise ChannelError(f"the lab's controller does not answer: {error}", subject=str(self._api)) from error
        if response.status_code >= 400:
            refusal = response.json()
            problems = "; ".join(str(problem.get("message")) for problem in refusal.get("problems", ()))
            raise HostwardError(
                problems or str(refusal.get("what", refusal)),
                subject=str(refusal.get("subject", "")),
                hint=str(refusal.get("hint", "")),
            )
        return response.json()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """What ``hostward get`` shows."""
        found: list[dict[str, Any]] = self.call("GET", f"/v1/objects/{kind}")
        return found

    def apply(self, sources: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Apply policy files, given as (name, text)."""
        files = [{"file": name, "text": text} for name, text in sources]
        answer: dict[str, Any] = self.call("POST", "/v1/apply", {"sources": files})
        return answer

    def flows(self, **wanted: str) -> list[dict[str, Any]]:
        """What ``hostward observe`` shows; ``source``, ``destination``, ``verdict``, ``since``."""
        response = self._http.get("/v1/flows", params={**wanted, "limit": "65536"})
        return [json.loads(line) for line in response.text.splitlines()]

    def lines(self, path: str, **wanted: str) -> list[str]:
        """An operation's answer that is one object a line."""
        return self._http.get(path, params={"limit": "8192", **wanted}).text.splitlines()

    def await_answer(self, process: Started, log: Path, limit_s: float = _START_LIMIT_S) -> None:
        """Return once the controller answers. Raises ChannelError with its last words if it ended."""
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s and process.alive:
            try:
                self.call("GET", "/v1/objects/hosts")
            except ChannelError:
                time.sleep(_LOOK_S)
            else:
                return
        raise ChannelError("the controller did not come up", subject=last_words(log), hint=f"see {log}")

    def await_hosts(self, agents: Mapping[str, tuple[Started, Path]], limit_s: float = _START_LIMIT_S) -> None:
        """Return once every named host is connected. Raises ChannelError with the last words of one that is not."""
        deadline_s = time.monotonic() + limit_s
        while True:
            connected = {host["name"] for host in self.objects("hosts") if host["connected"]}
            missing = [name for name in agents if name not in connected]
            if not missing:
                return
            for name in missing:
                agent, log = agents[name]
                if not agent.alive or time.monotonic() > deadline_s:
                    raise ChannelError(f"its agent does not come: {last_words(log)}", subject=name, hint=f"see {log}")
            time.sleep(_LOOK_S)

    def await_endpoints(self, names: Sequence[str], limit_s: float = _START_LIMIT_S) -> None:
        """Return once every named endpoint is enforced. Raises ChannelError naming one that is not."""
        deadline_s = time.monotonic() + limit_s
        while True:
            states = {e["id"]: (e["state"], e["reason"]) for e in self.objects("endpoints")}
            waiting = [name for name in names if states.get(name, ("absent", ""))[0] != "enforced"]
            if not waiting:
                return
            if time.monotonic() > deadline_s:
                state, reason = states.get(waiting[0], ("absent", ""))
                raise ChannelError(f"it is {state}, not enforced: {reason}", subject=waiting[0])
            time.sleep(_LOOK_S)


def last_words(log: Path) -> str:
    """The last error in a log, else its last line."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines)[-1] if lines else "(its log is empty)"
