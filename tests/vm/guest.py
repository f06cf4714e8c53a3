"""This repository's tests inside a QEMU guest with Debian 12's own kernel: boot, run, collect.

The guest has no network and no disk. What it prints comes over its first serial port, the tests' results over its second;
it ends by itself, or is ended at the limit.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.initramfs import Initramfs, find_kernel, find_tool

REPOSITORY = Path(__file__).resolve().parents[2]
_MODULES = ("veth", "bridge", "sch_ingress", "cls_bpf")
_TOOLS = (
    "busybox", "cat", "env", "grep", "ip", "kill", "ls", "mkdir", "mount", "nsenter", "setpriv", "sh", "sleep", "sysctl",
    "tc", "umount", "unshare",
)  # fmt: skip
# Big, and no test in a guest imports them.
_UNNEEDED = ("mypy", "mypyc", "*__mypyc.*", "pip", "grimp", "setuptools", "test", "idlelib", "lib2to3")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/lib /root /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 PYTHONPATH='{repository}/src'
export HOSTWARD_GUEST_REPORT=/dev/ttyS1
/bin/busybox stty -F /dev/ttyS1 raw
ip link set lo up
cd '{repository}'
{pytest} </dev/null
/bin/busybox poweroff -f
"""
# Two at a time, because a test mostly waits for processes that start slowly.
_PYTEST = (
    *("-m", "pytest", "-p", "tests.vm.reporting", "-p", "no:cacheprovider"),
    *("-n", "2", "--dist", "worksteal", "--timeout", "600", "-q", "--color", "no"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """How one test ended in the guest. ``text`` is a failure's traceback, or why it was skipped."""

    test: str
    outcome: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GuestRun:
    """All that came out of a guest. ``status`` is pytest's, None if pytest did not end."""

    kernel: str
    collected: tuple[str, ...]
    results: tuple[Result, ...]
    status: int | None
    console: str
    seconds: float


def boot(image: Path, console: Path, report: Path, *, limit_s: float) -> None:
    """Run a guest to its end, or to the limit; what it wrote to its two serial ports is in the files."""
    kernel, _ = find_kernel()
    # What is slow under TCG and not what is tested: mitigations of leaks that an emulated processor has not, and a clock
    # that is a device, which the kernel takes because it trusts no emulated counter.
    line = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off tsc=reliable"
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(kernel), "-initrd", str(image), "-append", line,
        "-serial", f"file:{console}", "-serial", f"file:{report}",
    ]  # fmt: skip
    # A guest at its limit is killed, and what it wrote until then says how far it came.
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=limit_s, check=True)


def run_in_guest(tests: Sequence[str], folder: Path, *, limit_s: float) -> GuestRun:
    """Boot a guest, run these test files, or single tests, in it, and wait for its end."""
    console, report = folder / "console.log", folder / "report.jsonl"
    image = _root(tests, folder).pack()
    started = time.monotonic()
    try:
        boot(image, console, report, limit_s=limit_s)
    finally:
        image.unlink()  # pytest keeps its folders, and this is big
    return _collect(report.read_text(), console.read_text(errors="replace"), time.monotonic() - started)


def _root(tests: Sequence[str], folder: Path) -> Initramfs:
    """Python with its packages, the repository, the tools that tests call, and the init that runs them."""
    root = Initramfs(folder)
    python = Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name
    for path in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}:
        root.take(Path(path), without=_UNNEEDED)
    for name in ("src", "tests", "examples", "pyproject.toml"):
        root.take(REPOSITORY / name)
    for file in (python, python.parents[1] / "pyvenv.cfg", *map(find_tool, _TOOLS)):
        root.take(file)
    root.take_modules(_MODULES)
    init = _INIT.format(repository=REPOSITORY, pytest=shlex.join([str(python), *_PYTEST, *tests]))
    root.place("init", init, 0o755)
    return root


def _collect(report: str, console: str, seconds: float) -> GuestRun:
    records = [json.loads(line) for line in report.splitlines() if line.endswith("}")]
    return GuestRun(
        kernel=next((record["kernel"] for record in records if "kernel" in record), ""),
        collected=tuple(record["collected"] for record in records if "collected" in record),
        results=tuple(Result(**record) for record in records if "test" in record),
        status=next((record["status"] for record in records if "status" in record), None),
        console=console,
        seconds=seconds,
    )
