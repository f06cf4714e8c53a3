"""`hostward lab …`: a datacenter on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hostward.errors import HostwardError, UsageError
from hostward.lab.lab import Lab, bring_up, open_lab
from hostward.lab.processes import Started
from hostward.lab.state import load_state, running_labs, tear_down

app = typer.Typer(no_args_is_help=True, help="A datacenter on this machine, from a YAML file.")
_messages = Console(stderr=True)

Name = Annotated[str, typer.Option("--lab", help="The lab's name; may be left out while only one is up.")]


def _root() -> None:
    if os.geteuid() != 0:
        raise UsageError("the lab makes namespaces and loads programs", hint="run it as root")


def _only(name: str) -> str:
    if name:
        return name
    labs = running_labs()
    if len(labs) != 1:
        raise UsageError(
            "no lab is up" if not labs else "which lab?",
            hint=f"name it: {', '.join(labs)}" if labs else "hostward lab up FILE",
        )
    return labs[0]


@app.command()
def up(
    file: Path,
    wait: Annotated[
        bool, typer.Option(help="Return when everything is enforced and every gate is open, which is always so.")
    ] = True,
) -> None:
    """Build the lab and bring it under Hostward; returns once every endpoint is enforced and every host has a network."""
    _root()
    if not wait:
        raise UsageError("a lab is never left half built", subject="--no-wait", hint="leave it out")
    started_s = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_messages, transient=True) as progress:
        task = progress.add_task("lab")
        lab = bring_up(file, lambda text: progress.update(task, description=text))
    lab.close()
    _messages.print(f"lab {lab.topology.name} is up after {time.monotonic() - started_s:.1f} s")
    print(f"export HOSTWARD_SERVER=unix://{lab.state.api}")


@app.command()
def status(
    lab: Name = "",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> None:
    """Show the lab's hosts, endpoints and processes."""
    opened = open_lab(_only(lab))
    rows = _rows(opened)
    opened.close()
    if output == "json":
        print(json.dumps(rows, indent=2))
    elif output == "table":
        for row in rows:
            print("  ".join(f"{row[key]:<22}" for key in ("kind", "name", "host", "state", "pid")).rstrip())
    else:
        raise UsageError("an output is table or json", subject=output)


def _rows(lab: Lab) -> list[dict[str, str]]:
    def row(kind: str, name: str, host: str, state: str) -> dict[str, str]:
        return {"kind": kind, "name": name, "host": host, "state": state, "pid": ""}

    def running(kind: str, name: str, host: str, process: Started | None) -> dict[str, str]:
        if process is None or not process.alive:
            return row(kind, name, host, "ended")
        return {**row(kind, name, host, "running"), "pid": str(process.pid)}

    try:
        endpoints = {str(e["id"]): str(e["state"]) for e in lab.operator.objects("endpoints")}
    except HostwardError:
        endpoints = {}
    rows = [row("attestation", lab.topology.name, "", lab.topology.attestation.value)]
    rows += [row("network", host, host, state) for host, state in _networks(lab).items()]
    rows += [running(name, name, "", process) for name, process in lab.state.others.items()]
    for host, holder in lab.state.holders.items():
        rows.append(running("host", host, host, holder))
        rows.append(running("agent", host, host, lab.state.agents.get(host)))
    rows += [row(e.kind.value, e.id, e.host, endpoints.get(e.id, "unknown")) for e in lab.topology.endpoints.values()]
    rows += [row("outside", name, "", "running") for name in lab.topology.outside]
    return rows


def _networks(lab: Lab) -> dict[str, str]:
    """By host, whether its gate lets it have one; nothing of labs without gates."""
    if not lab.attested:
        return {}
    try:
        told = {str(each["name"]): each["gates"] for each in lab.operator.call("GET", "/v1/attestation")}
    except HostwardError:
        told = {}
    return {host: _network(told.get(host)) for host in lab.topology.hosts}


def _network(gates: list[dict[str, Any]] | None) -> str:
    if not gates:
        return "unknown"
    closed = [str(gate["why"]) for gate in gates if not gate["open"]]
    return f"closed: {closed[0]}" if closed else "open"


@app.command(
    "exec",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def execute(context: typer.Context, endpoint: str, lab: Name = "") -> None:
    """Run a command inside an endpoint and pass its exit status on: `hostward lab exec acme/web-1 -- ip addr`."""
    command = context.args[1:] if context.args[:1] == ["--"] else context.args
    if not command:
        raise UsageError("what shall it run?", hint="hostward lab exec ENDPOINT -- COMMAND…")
    opened = open_lab(_only(lab))
    sys.exit(opened.run(endpoint, command))


@app.command()
def down(lab: Annotated[str, typer.Argument(help="May be left out while only one is up.")] = "") -> None:
    """Take the lab down: processes, namespaces, pins and files. Works after a crash, and twice."""
    _root()
    if not lab and not running_labs():
        _messages.print("no lab is up")
        return
    name = _only(lab)
    tear_down(load_state(name))
    _messages.print(f"lab {name} is down")


@app.command()
def demo(
    file: Annotated[Path | None, typer.Argument(help="The lab file; the three-tier example if left out.")] = None,
) -> None:
    """Show the main job in a lab of its own, claim by claim; the exit status says whether all held."""
    from hostward.lab.demo.run import find_topology, only_one, remove_remains, run_demo

    _root()
    topology = file or find_topology()
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever this process inherited: clean up as after Ctrl-C
        signal.signal(number, signal.default_int_handler)
    try:
        with only_one():
            remove_remains(topology)
            held = run_demo(Console(), topology)
    except KeyboardInterrupt:
        _messages.print("interrupted; everything was cleaned up")
        sys.exit(130)
    sys.exit(0 if held else 1)
