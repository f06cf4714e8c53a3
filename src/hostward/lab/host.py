"""A lab host: network, mount and pid namespaces of its own, held by one process, and the agent inside them.

It may load and attach programs, and it may not enter other namespaces, trace processes or mount: design §8.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hostward.errors import HostwardError
from hostward.lab.processes import Started, child_of, identify, launch
from hostward.lab.state import LabState

_WITHOUT = ",".join(f"-{name}" for name in ("sys_admin", "sys_ptrace", "sys_module", "sys_rawio", "mknod"))
# Dropped from the bounding set, so that no program with set-uid or file capabilities brings them back.
REDUCED = ["setpriv", f"--bounding-set={_WITHOUT}", "--inh-caps=-all", "--"]

# sysfs shows the devices of the namespace that mounts it, so the host needs its own; its part of the machine's bpffs is
# moved in afterwards. /run comes last, because the folders lie in it.
_ENTER = """
set -e
mount --bind "$PINS" "$FOLDER/bpf"
mount -t sysfs sysfs /sys
mount --move "$FOLDER/bpf" /sys/fs/bpf
mkdir -p /var/lib/hostward
mount --bind "$FOLDER/state" /var/lib/hostward
mount --bind "$FOLDER/run" /run
ip link set lo up
echo ready
exec >/dev/null 2>&1 "$@"
"""


def start_host(state: LabState, host: str) -> Started:
    """Start the process that holds a host's namespaces; they are complete when this returns."""
    folder, pins = state.host_folder(host), state.pins / host
    for path in (folder / "bpf", folder / "state", folder / "run"):
        path.mkdir(parents=True, exist_ok=True)
    folder.joinpath("state").chmod(0o700)
    pins.mkdir(parents=True, exist_ok=True)
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        _ENTER,
        "sh",
    ]
    process = subprocess.Popen(
        [*command, *REDUCED, "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FOLDER": str(folder), "PINS": str(pins)},
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline().strip()
    if said != "ready":
        raise HostwardError(
            f"the host's namespaces could not be made: {said}", subject=host, hint="the lab needs root and bpffs"
        )
    return child_of(identify(process.pid))


def network_of(holder: Started) -> str:
    """The path of a host's network namespace."""
    return f"/proc/{holder.pid}/ns/net"


def enter_host(holder: Started) -> list[str]:
    """What to put before a command to run it as a process of the host, with the host's rights."""
    # The root too: in a chroot the namespace of mounts begins above it.
    return ["nsenter", f"--target={holder.pid}", "--net", "--mount", "--pid", "--root", "--", *REDUCED]


def start_agent(state: LabState, host: str) -> Started:
    """Start a host's agent. Its token, if it needs one, lies in the host's state folder."""
    nsenter = launch(
        [*enter_host(state.holders[host]), *hostward_command("agent", "--config", "/var/lib/hostward/agent.toml")],
        agent_log(state, host),
    )
    return child_of(nsenter)


def agent_log(state: LabState, host: str) -> Path:
    """Where a host's agent logs."""
    return state.host_folder(host) / "agent.log"


def hostward_command(*arguments: str) -> list[str]:
    """This very installation's command line."""
    return [sys.executable, "-m", "hostward.cli.main", *arguments]
