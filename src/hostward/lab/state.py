"""What a running lab has made, on disk, so that another process can take it down, also after a crash.

Names are written before the thing is made: what a crash leaves behind is always in the file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hostward.errors import NotFoundError
from hostward.lab.processes import Started, run

LABS = Path("/run/hostward-lab")
BPFFS = Path("/sys/fs/bpf")


@dataclass(slots=True)
class LabState:
    """The record of one lab. ``holders`` are the first processes of the hosts' pid namespaces."""

    name: str
    file: str
    token: str
    namespaces: list[str] = field(default_factory=list)
    holders: dict[str, Started] = field(default_factory=dict)
    agents: dict[str, Started] = field(default_factory=dict)
    machines: dict[str, Started] = field(default_factory=dict)
    others: dict[str, Started] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the lab's files are."""
        return LABS / self.name

    @property
    def api(self) -> Path:
        """The controller's socket."""
        return self.folder / "api.sock"

    @property
    def pins(self) -> Path:
        """The lab's part of the machine's bpffs; a lab of the same name in a chroot, which may share it, has another."""
        return BPFFS / f"hostward-lab-{self.name}-{self.token}"

    def namespace(self, *parts: str) -> str:
        """The name of a network namespace of this lab, as `ip netns` shows it."""
        return "-".join(("hw", self.name, *parts))

    def host_folder(self, host: str) -> Path:
        """What a host sees as its own /run and /var/lib/hostward."""
        return self.folder / "hosts" / host

    def save(self) -> None:
        """Write the record, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {
            "name": self.name,
            "file": self.file,
            "token": self.token,
            "namespaces": self.namespaces,
            **{
                kind: {key: [p.pid, p.start_ticks] for key, p in getattr(self, kind).items()}
                for kind in ("holders", "agents", "machines", "others")
            },
        }
        new = self.folder / "state.json.new"
        new.write_text(json.dumps(values))
        new.replace(self.folder / "state.json")


def running_labs() -> list[str]:
    """The names of labs that were brought up and not taken down."""
    return sorted(path.parent.name for path in LABS.glob("*/state.json"))


def load_state(name: str) -> LabState:
    """The record of a lab. Raises NotFoundError."""
    try:
        values = json.loads((LABS / name / "state.json").read_text())
    except OSError as error:
        known = ", ".join(running_labs()) or "none"
        raise NotFoundError("no such lab is up", subject=name, hint=f"labs that are up: {known}") from error
    kinds = {
        kind: {key: Started(*pair) for key, pair in values[kind].items()}
        for kind in ("holders", "agents", "machines", "others")
    }
    return LabState(values["name"], values["file"], values["token"], values["namespaces"], **kinds)


def tear_down(state: LabState, report: Callable[[str], None] = lambda _: None) -> None:
    """Remove everything a lab made: processes, namespaces, pins, files. Does no harm when done twice."""
    for kind in (state.others, state.agents, state.machines, state.holders):
        for key, process in kind.items():
            report(key)
            process.kill()
    present = set(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else set()
    for namespace in state.namespaces:
        if namespace in present:
            run(["ip", "netns", "del", namespace])
    shutil.rmtree(state.pins, ignore_errors=True)
    shutil.rmtree(state.folder, ignore_errors=True)
