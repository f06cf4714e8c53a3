"""The programs that note which process uses a socket: where they are, and the cgroup whose sockets they see."""

from __future__ import annotations

from pathlib import Path

from hostward import _core
from hostward.errors import DatapathError
from hostward.model.slice import HostSlice

OBJECT = Path(__file__).parent.parent / "bpf" / "process.bpf.o"
_MOUNTS = Path("/proc/self/mounts")


def asks_for_processes(desired: HostSlice) -> bool:
    """Whether any decision of a slice depends on a process."""
    return any(decision.names for decision in desired.decisions.values())


def asks_for_acceptors(desired: HostSlice) -> bool:
    """Whether any decision of a slice depends on who accepts."""
    return any(decision.acceptor and decision.acceptor.named for decision in desired.decisions.values())


def watch_processes(core: _core.Datapath) -> None:
    """Have the process of every socket on this machine noted from now on, or see that it still is.

    Raises DatapathError: without them nobody would be who a rule names, so the revision must not come into force.
    """
    if not OBJECT.exists():
        raise DatapathError("the object that knows processes is missing", subject=str(OBJECT), hint="run `make build`")
    try:
        core.watch_processes(str(OBJECT), str(_cgroup_root()))
    except _core.CoreError as error:
        raise DatapathError(
            f"processes cannot be told apart: {error}",
            hint="take rules with `by process` and `at process` back, or mend this first",
        ) from error


def _cgroup_root() -> Path:
    """The root of the cgroups of version 2, beside version 1 or alone."""
    for line in _MOUNTS.read_text().splitlines():
        _, place, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(place.replace("\\040", " "))
    raise DatapathError(
        "no cgroup2 file system is mounted, and rules name processes",
        subject=str(_MOUNTS),
        hint="mount it: `mount -t cgroup2 none /sys/fs/cgroup/unified`",
    )
