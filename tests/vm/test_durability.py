"""An acknowledged change survives a hard reset of the machine (issue: durability), controller and agent alike.

A QEMU guest makes changes through the real controller, and a real agent enforces them; whatever either acknowledges is
reported to this side, which presses the reset button at a random moment. Two caches are lost each time: the guest's page
cache, because its memory is gone, and the disk's own write cache, because the disk is ``VolatileDisk``: of what was written
and not flushed it keeps a random half of the sectors. The guest boots from its kernel on, its file system recovers, and
before anything is written again it says what it found. Change n is a function of n, so whatever is found can be compared
whole, acknowledged or not.

One reset in six strikes a guest that is still booting or recovering. `HOSTWARD_RESETS=100` does a hundred of them,
`HOSTWARD_SEED` repeats a run's moments (not the guest's own timing).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.vm.change_stream import digest, endpoints, policy_text
from tests.vm.durable_guest import UNSYNCED
from tests.vm.guest import REPOSITORY
from tests.vm.initramfs import Initramfs, find_tool
from tests.vm.machine import Machine
from tests.vm.volatile_disk import Flushing, VolatileDisk

RESETS = int(os.environ.get("HOSTWARD_RESETS", "6"))
# A control that has lost nothing after so many resets shows that the test tests nothing.
CONTROL_RESETS = 6
SECONDS_A_RESET = 90
DISK_BYTES = 96 * 1024 * 1024
# A guest is struck after so many changes at most, and so much later at most.
CHANGES_MAX = 12
MOMENT_S = 0.5

_PACKAGES = ("_cffi_backend*", "cffi", "cryptography", "lark", "msgspec", "ruamel", "typing_extensions.py", "websockets")
_UNNEEDED = ("test", "idlelib", "lib2to3", "tkinter", "ensurepip", "pydoc_data", "distutils", "dist-packages", "config-*")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox stty -F /dev/ttyS1 raw
printf '\\n{{"booted": 1}}\\n' >/dev/ttyS1
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
/bin/busybox ip link set lo up
/bin/busybox mount -t ext4 /dev/vda /disk || printf '{{"failed": "the file system cannot be mounted"}}\\n' >/dev/ttyS1
/bin/busybox mkdir -p -m 700 /disk/state
export PYTHONPATH='{repository}/src:{repository}' PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
'{python}' -m tests.vm.durable_guest /disk/state
/bin/busybox sleep 100000
"""

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120 + SECONDS_A_RESET * max(RESETS, CONTROL_RESETS))]


@dataclass(slots=True)
class Trial:
    """What happened in one machine's life of resets."""

    acknowledged: int = 0
    enforced: int = 0
    faults: list[str] = field(default_factory=list)
    resets: int = 0
    sectors_lost: int = 0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guest's root: Python with what a controller and an agent import, and the program that it runs."""
    root = Initramfs(tmp_path_factory.mktemp("root"))
    python = Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name
    root.take(Path(sysconfig.get_path("stdlib")), without=_UNNEEDED)
    site = Path(sysconfig.get_path("platlib"))
    for pattern in _PACKAGES:
        for path in site.glob(pattern):
            root.take(path)
    root.take(REPOSITORY / "src", without=("lab", "*.bpf.o", "__pycache__" if sys.pycache_prefix else "*.pyi"))
    for name in ("tests/__init__.py", "tests/vm", "tests/unit/model_enforcer.py"):
        root.take(REPOSITORY / name)
    for file in (python, python.parents[1] / "pyvenv.cfg", find_tool("busybox")):
        root.take(file)
    root.take_modules(("virtio_pci", "virtio_blk"))
    root.place("init", _INIT.format(repository=REPOSITORY, python=python), 0o755)
    packed = root.pack()
    yield packed
    packed.unlink()


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
    image: Path, folder: Path, resets: int, words: tuple[str, ...] = (), flushing: Flushing = Flushing.HONEST
) -> Trial:
    """Reset a guest at random moments until so many are done, or the first fault is found."""
    seed = int(os.environ.get("HOSTWARD_SEED", "0")) or secrets.randbits(32)
    print(f"seed {seed}")
    random = Random(seed)  # noqa: S311 (moments, not secrets)
    disk_image = folder / "disk"
    disk_image.touch()
    os.truncate(disk_image, DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk_image], check=True)
    trial = Trial()
    address = folder / "disk.socket"
    with (
        VolatileDisk(disk_image, address, random, flushing) as disk,
        Machine(image, address, folder, words) as machine,
    ):
        while True:
            whole_boot = trial.resets == resets or random.random() > 1 / 6
            _boot_and_change(machine, random, trial, whole_boot=whole_boot)
            if trial.faults or trial.resets == resets:
                return trial
            machine.reset()
            trial.sectors_lost += disk.cut_power()
            trial.resets += 1


def _boot_and_change(machine: Machine, random: Random, trial: Trial, *, whole_boot: bool) -> None:
    """Read on from a reset to the moment of the next; the first lines may still be the last of the boot before."""
    while (record := _read(machine)) is None or "booted" not in record:
        _take(record, trial)
    if not whole_boot:
        time.sleep(random.uniform(0.0, 8.0))
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


def test_what_was_acknowledged_survives_resets_at_random_moments(image: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    trial = reset_often(image, tmp_path, RESETS)
    print(f"{trial.resets} resets, {trial.acknowledged} revisions, {trial.sectors_lost} sectors lost,")
    print(f"{time.monotonic() - started:.0f} s")
    assert trial.faults == []
    assert trial.resets == RESETS
    assert trial.sectors_lost > 0, "no reset met an unflushed write: the moments are badly chosen"


def test_a_store_that_does_not_sync_is_found_out(image: Path, tmp_path: Path) -> None:
    """Negative control: the same with PRAGMA synchronous = OFF and without fsync loses what it acknowledged."""
    trial = reset_often(image, tmp_path, CONTROL_RESETS, (UNSYNCED,))
    assert any("was acknowledged, and history ends at" in fault for fault in trial.faults), trial


def test_a_disk_that_ignores_flushes_is_found_out(image: Path, tmp_path: Path) -> None:
    """Negative control of the disk: if its write cache were not really lost, nothing would be missing here."""
    trial = reset_often(image, tmp_path, CONTROL_RESETS, flushing=Flushing.IGNORED)
    assert trial.faults, trial


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"head": 3, "history": [[1, digest(policy_text(1))]]}, "history has a gap"),
        ({"endpoints": ["acme/web-9"]}, "has endpoints"),
        ({"history": [[1, "0"], [2, digest(policy_text(2))]]}, "revision 1 is not what was made"),
        ({"host": 1}, "the host acknowledged revision 2, and kept 1"),
        ({"host": 3}, "the host has revision 3"),
        ({"integrity": "row 1 missing from index"}, "the database is damaged"),
    ],
)
def test_the_judge_sees_every_kind_of_loss(change: dict[str, Any], fault: str) -> None:
    whole = {
        "head": 2,
        "history": [[n, digest(policy_text(n))] for n in (1, 2)],
        "endpoints": endpoints(2),
        "integrity": "ok",
        "host": 2,
    }
    assert faults(whole, 2, 2) == []
    assert any(fault in text for text in faults({**whole, **change}, 2, 2))
