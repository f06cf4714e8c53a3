"""The demo from its first wire to its last table."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from hostward.errors import ConflictError, NotFoundError
from hostward.lab.demo import (
    attack_claims,
    change_claims,
    failure_claims,
    monitor_claims,
    policy_claims,
    trust_claims,
)
from hostward.lab.demo.claims import Claims
from hostward.lab.demo.stage import Stage
from hostward.lab.lab import Lab, prepare
from hostward.lab.state import LABS, load_state, tear_down
from hostward.lab.topology import read_topology

TOPOLOGY = Path("examples/three-tier/lab/topology.yaml")


def find_topology(file: Path = TOPOLOGY) -> Path:
    """A lab file of the demo: in the working directory, or in this module's checkout. Raises NotFoundError."""
    checkout = Path(__file__).resolve().parents[4]
    for folder in (Path.cwd(), checkout):
        if (folder / file).is_file():
            return folder / file
    raise NotFoundError("the demo's lab file is not here", subject=str(file), hint="run it in a checkout of Hostward")


def run_demo(console: Console, file: Path) -> bool:
    """Build, show, conclude, and clean up whatever happens; whether every claim held."""
    claims = Claims(console)
    lab = prepare(file, lambda text: console.print(f"[dim]{text}[/]"))
    stage: Stage | None = None
    try:
        started_s = time.monotonic()
        lab.build()
        stage = Stage(lab)
        stage.serve()
        lab.force_ports("up")
        lab.await_machines()
        claims.figure("lab built and machine booted", f"{time.monotonic() - started_s:.1f} s")
        attack_claims.claim_control(claims, stage)
        _forget(lab)
        started_s = time.monotonic()
        lab.start_hostward()
        lab.apply_policy()
        lab.attach_endpoints()
        lab.await_network()
        claims.figure(
            "Hostward started, hosts attested, enforcing, gates open", f"{time.monotonic() - started_s:.1f} s"
        )
        for chapter in (policy_claims, attack_claims, change_claims, failure_claims):
            chapter.claim_all(claims, stage)
        monitor_claims.claim_all(claims, console, find_topology(monitor_claims.TOPOLOGY))
        trust_claims.claim_all(claims, console, find_topology(trust_claims.TOPOLOGY))
        return claims.conclude()
    finally:
        # Nobody is served by a clean-up that a second Ctrl-C breaks off.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        console.print("[dim]cleaning up[/]")
        if stage is not None:
            stage.close()
        lab.close()
        tear_down(lab.state)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Keep a second demo from taking the first for the remains of an interrupted one. Raises ConflictError."""
    LABS.mkdir(parents=True, exist_ok=True)
    with (LABS / "demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError("a demo runs already", hint="wait for its end, or interrupt it") from None
        yield


def remove_remains(file: Path) -> None:
    """Take down what an earlier, interrupted run left behind."""
    try:
        tear_down(load_state(read_topology(file).name))
    except NotFoundError:
        return


def _forget(lab: Lab) -> None:
    """Close the ports again, and make everybody forget what the undefended attacks taught them."""
    lab.force_ports("down")
    lab.forget_neighbours()
