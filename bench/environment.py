"""Where and under which load the figures came about; nothing of it is judged."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from bench.commands import BenchError, inside, run
from bench.topology import built
from bench.workloads import processor
from hostward.datapath.kernel import default_hook

_ROOT = Path(__file__).parent.parent
_OFFLOADS = ("tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload", "tx-checksumming")


def facts() -> dict[str, object]:
    """The machine, its kernel and the tools."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": _revision(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "measured_on_cpu": processor(),
        "hook": default_hook(),
        "python": platform.python_version(),
        "tools": {
            "nft": _version("nft", "--version"),
            "iproute2": _version("ip", "-Version"),
        },
    }


def load() -> list[float]:
    """The load average over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def offloads() -> dict[str, str]:
    """What veth devices of a topology do with large segments: the kernel's own choice, which nothing here changes."""
    with built(f"{os.getpid()}-facts") as topology:
        told = run([*inside(topology.router), "ethtool", "--show-features", topology.port("client")])
    return {
        name: state for name, state in re.findall(r"^([a-z-]+): (\w+)", told, flags=re.MULTILINE) if name in _OFFLOADS
    }


def _revision() -> str:
    """The commit that is measured; ``+changes`` where files differ from it."""
    try:
        commit = run(["git", "-C", str(_ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
        changes = run(["git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no"]).strip()
    except BenchError:
        return "unknown"  # an unpacked archive, or no git
    return f"{commit}+changes" if changes else commit


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found[1] if found else "unknown"


def _version(*command: str) -> str:
    return run(command).splitlines()[0].strip()
