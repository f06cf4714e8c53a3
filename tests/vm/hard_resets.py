"""A guest that is stopped dead again and again while it makes changes, and the judging of what it has kept.

Owns the boot, the moments and the judge; ``test_durability`` says what is lost at each reset and why that is a reset.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

from tests.vm.change_stream import digest, endpoints, policy_text
from tests.vm.guest import REPOSITORY
from tests.vm.initramfs import Initramfs, find_tool
from tests.vm.machine import Machine
from tests.vm.volatile_disk import Flushing, VolatileDisk

DISK_BYTES = 96 * 1024 * 1024
# A guest is struck after so many changes at most, and so much later at most.
CHANGES_MAX = 12
MOMENT_S = 0.5
IN_RECOVERY = 1 / 6
RECOVERY_S = 3.0
# A machine takes seconds to come back. ext4 tells a torn transaction from a stale one of an earlier life by whole seconds
# of their commits, and lives here are shorter: without this it refused a journal once in some two hundred resets.
AWAY_S = 2.0

# Asked of the program itself: a list kept by hand would lack what the next dependency brings.
_NAME_PACKAGES = """
import sys, sysconfig
from pathlib import Path
import tests.vm.durable_guest
site = Path(sysconfig.get_path("platlib"))
files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
print(*sorted({file.relative_to(site).parts[0] for file in files if file.is_relative_to(site)}))
"""
_UNNEEDED = (
    "test", "idlelib", "lib2to3", "tkinter", "ensurepip", "pydoc_data", "distutils", "dist-packages", "config-*",
)  # fmt: skip
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox stty -F /dev/ttyS1 raw -echo
for module in /modules/*.ko; do
    case $module in {disk_driver}) ;; *) /bin/busybox insmod "$module" ;; esac
done
/bin/busybox ip link set lo up
export PYTHONPATH='{repository}/src:{repository}' PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
'{python}' -m tests.vm.durable_guest {disk_driver} /disk/state
/bin/busybox sleep 100000
"""


@dataclass(slots=True)
class Trial:
    """What happened in one machine's life of resets."""

    acknowledged: int = 0
    enforced: int = 0
    faults: list[str] = field(default_factory=list)
    resets: int = 0
    sectors_lost: int = 0


class Syncing(Enum):
    """Whether controller and agent in the guest sync what they write."""

    AS_BUILT = "as built"
    TAKEN_OUT = "taken out"


@dataclass(frozen=True, slots=True)
class Booted:
    """A guest's root, and the memory of one that has booted and has not met its disk."""

    image: Path
    memory: Path


def boot(folder: Path) -> Booted:
    """Boot a guest to the point where it waits to be shown its disk, and keep its memory."""
    made = Booted(_make_root(folder), folder / "memory")
    address = folder / "disk.socket"
    with VolatileDisk(_make_disk(folder), address, Random(0)), Machine(made.image, address, folder) as machine:
        while _read(machine) != {"loaded": True}:
            pass
        machine.save(made.memory)
    return made


def _make_root(folder: Path) -> Path:
    """Python with what a controller and an agent import, and the program that the guest runs."""
    root = Initramfs(folder)
    python = Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name
    root.take(Path(sysconfig.get_path("stdlib")), without=_UNNEEDED)
    site = Path(sysconfig.get_path("platlib"))
    named = subprocess.run([sys.executable, "-c", _NAME_PACKAGES], cwd=REPOSITORY, capture_output=True, check=True)
    for name in named.stdout.decode().split():
        for path in (site / name, site / f"{name}.libs"):
            if path.exists():
                root.take(path)
    for name in ("src", "tests/__init__.py", "tests/vm", "tests/unit/model_enforcer.py"):
        root.take(REPOSITORY / name, without=("lab", "*.bpf.o", "__pycache__"))
    for file in (python, python.parents[1] / "pyvenv.cfg", find_tool("busybox")):
        root.take(file)
    # The disk's driver is the last of them, and it alone waits until the guest is to meet the disk.
    driver = root.take_modules(("virtio_pci", "virtio_blk"))[-1]
    root.place("init", _INIT.format(repository=REPOSITORY, python=python, disk_driver=driver), 0o755)
    return root.pack()


def faults(found: dict[str, Any], acknowledged: int, enforced: int) -> list[str]:
    """What is wrong with what a guest found, given what was acknowledged before it was reset."""
    wrong = []
    head = found["head"]
    if found["integrity"] != "ok":
        wrong.append(f"the database is damaged: {found['integrity']}")
    if head < acknowledged:
        wrong.append(f"revision {acknowledged} was acknowledged, and history ends at {head}")
    if head > acknowledged + 1:
        wrong.append(f"history goes to {head}, and no more than {acknowledged + 1} can have been begun")
    if [number for number, _ in found["history"]] != list(range(1, head + 1)):
        wrong.append("history has a gap")
    wrong += [f"revision {n} is not what was made" for n, text in found["history"] if text != digest(policy_text(n))]
    if found["endpoints"] != endpoints(head):
        wrong.append(f"revision {head} has endpoints {found['endpoints']}, not {endpoints(head)}")
    if found["host"] < enforced:
        wrong.append(f"the host acknowledged revision {enforced}, and kept {found['host']}")
    if found["host"] > head:
        wrong.append(f"the host has revision {found['host']}, and history ends at {head}")
    return wrong


def reset_often(
    booted: Booted,
    folder: Path,
    resets: int,
    syncing: Syncing = Syncing.AS_BUILT,
    flushing: Flushing = Flushing.HONEST,
) -> Trial:
    """Reset a guest at random moments until so many are done, or the first fault is found."""
    seed = int(os.environ.get("HOSTWARD_SEED", "0")) or secrets.randbits(32)
    print(f"seed {seed}")
    random = Random(seed)
    disk_image = _make_disk(folder)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk_image], check=True)
    trial = Trial()
    address = folder / "disk.socket"
    with VolatileDisk(disk_image, address, random, flushing) as disk:
        while True:
            whole = trial.resets == resets or random.random() > IN_RECOVERY
            with Machine(booted.image, address, folder, booted.memory) as machine:
                time_s = time.time() + AWAY_S * trial.resets
                machine.say(json.dumps({"time_s": time_s, "unsynced": syncing is Syncing.TAKEN_OUT}))
                _work_until_struck(machine, random, trial, whole=whole)
                machine.kill()
                with contextlib.suppress(EOFError, ConnectionError):
                    while True:
                        _take(_read(machine), trial)  # what it had said by then
            if trial.faults or trial.resets == resets:
                return trial
            trial.sectors_lost += disk.cut_power()
            trial.resets += 1


def _make_disk(folder: Path) -> Path:
    """An empty image."""
    disk = folder / "disk"
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    return disk


def _work_until_struck(machine: Machine, random: Random, trial: Trial, *, whole: bool) -> None:
    """Read on to the moment of the next reset: after some changes, or while the guest recovers from the last."""
    if not whole:
        time.sleep(random.uniform(0.0, RECOVERY_S))
        return
    wanted, changes = random.randint(1, CHANGES_MAX), 0
    while changes < wanted and not trial.faults:
        record = _read(machine)
        _take(record, trial)
        changes += record is not None and "acknowledged" in record
    time.sleep(random.uniform(0.0, MOMENT_S))


def _take(record: dict[str, Any] | None, trial: Trial) -> None:
    if record is None:
        return
    if "failed" in record:
        trial.faults.append(record["failed"])
    elif "found" in record:
        found = record["found"]
        trial.faults += faults(found, trial.acknowledged, trial.enforced)
        # What was found is there to stay, acknowledged or not.
        trial.acknowledged, trial.enforced = max(found["head"], trial.acknowledged), max(found["host"], trial.enforced)
    elif "acknowledged" in record:
        trial.acknowledged = record["acknowledged"]
        trial.enforced = max(record["host"], trial.enforced)


def _read(machine: Machine) -> dict[str, Any] | None:
    """A line of the guest; None for what a reset left of one, which acknowledges nothing."""
    try:
        record: dict[str, Any] = json.loads(machine.next_line())
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
