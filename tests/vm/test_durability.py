"""An acknowledged change survives a hard reset of the machine (issue: durability), controller and agent alike.

A QEMU guest makes changes through the real controller, and a real agent enforces them; whatever either acknowledges is
reported to this side, which kills the machine at a random moment. Two caches are lost each time: the guest's page cache,
because its memory is gone, and the disk's own write cache, because the disk is ``VolatileDisk``: of what was written and
not flushed it keeps a random half of the sectors. Then the machine starts anew, its kernel meets the disk for the first
time and mounts it, and before the controller writes to it the guest says what it found. Change n is a function of n,
so whatever is found can be compared whole, acknowledged or not.

Under TCG a boot takes half a minute where others work too. So the guest boots once, to the point where Python is loaded and
not even the disk's driver is, its memory is saved, and each start begins there: with nothing in it of any disk.

One reset in six strikes while the guest mounts, recovers or starts its controller. `HOSTWARD_RESETS=100` does a hundred of
them, `HOSTWARD_SEED` repeats a run's moments (not the guest's own timing).
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import secrets
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.vm.change_stream import digest, endpoints, policy_text
from tests.vm.guest import REPOSITORY
from tests.vm.initramfs import Initramfs, find_tool
from tests.vm.machine import Machine
from tests.vm.volatile_disk import Flushing, VolatileDisk

RESETS = int(os.environ.get("HOSTWARD_RESETS", "6"))
# A control that has lost nothing after so many resets shows that the test tests nothing.
CONTROL_RESETS = 6
SECONDS_A_RESET = 45
DISK_BYTES = 96 * 1024 * 1024
# A guest is struck after so many changes at most, and so much later at most.
CHANGES_MAX = 12
MOMENT_S = 0.5
IN_RECOVERY = 1 / 6
RECOVERY_S = 3.0

_PACKAGES = (
    "_cffi_backend*",
    "cffi",
    "cryptography",
    "lark",
    "msgspec",
    "ruamel",
    "typing_extensions.py",
    "websockets",
)
_UNNEEDED = (
    "test",
    "idlelib",
    "lib2to3",
    "tkinter",
    "ensurepip",
    "pydoc_data",
    "distutils",
    "dist-packages",
    "config-*",
)
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

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120 + SECONDS_A_RESET * max(RESETS, CONTROL_RESETS))]


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


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """One boot for all resets of this module."""
    folder = tmp_path_factory.mktemp("boot")
    made = Booted(_make_root(folder), folder / "memory")
    address = folder / "disk.socket"
    try:
        with VolatileDisk(make_disk(folder), address, Random(0)), Machine(made.image, address, folder) as machine:
            while _read(machine) != {"loaded": True}:
                pass
            machine.save(made.memory)
        yield made
    finally:
        for big in (made.image, made.memory):
            big.unlink(missing_ok=True)  # pytest keeps its folders


def _make_root(folder: Path) -> Path:
    """Python with what a controller and an agent import, and the program that the guest runs."""
    root = Initramfs(folder)
    python = Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name
    root.take(Path(sysconfig.get_path("stdlib")), without=_UNNEEDED)
    site = Path(sysconfig.get_path("platlib"))
    for pattern in _PACKAGES:
        for path in site.glob(pattern):
            root.take(path)
    for name in ("src", "tests/__init__.py", "tests/vm", "tests/unit/model_enforcer.py"):
        root.take(REPOSITORY / name, without=("lab", "*.bpf.o", "__pycache__"))
    _place_compiled(root)
    for file in (python, python.parents[1] / "pyvenv.cfg", find_tool("busybox")):
        root.take(file)
    # The disk's driver is the last of them, and it alone waits until the guest is to meet the disk.
    driver = root.take_modules(("virtio_pci", "virtio_blk"))[-1]
    root.place("init", _INIT.format(repository=REPOSITORY, python=python, disk_driver=driver), 0o755)
    return root.pack()


def _place_compiled(root: Initramfs) -> None:
    """What Python would else compile at every boot, which takes longer than all the rest of it."""
    for source in [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "tests/vm").glob("*.py")]:
        module = compile(source.read_bytes(), source, "exec", dont_inherit=True)
        # PEP 552: unchecked, so that no time stamp has to agree.
        content = MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source.read_bytes()) + marshal.dumps(module)
        root.place(cache_from_source(str(source)).lstrip("/"), content)


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
    disk_image = make_disk(folder)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk_image], check=True)
    trial = Trial()
    address = folder / "disk.socket"
    with VolatileDisk(disk_image, address, random, flushing) as disk:
        while True:
            whole = trial.resets == resets or random.random() > IN_RECOVERY
            with Machine(booted.image, address, folder, booted.memory) as machine:
                machine.say(json.dumps({"time_s": time.time(), "unsynced": syncing is Syncing.TAKEN_OUT}))
                _work_until_struck(machine, random, trial, whole=whole)
                machine.kill()
                with contextlib.suppress(EOFError, ConnectionError):
                    while True:
                        _take(_read(machine), trial)  # what it had said by then
            if trial.faults or trial.resets == resets:
                return trial
            trial.sectors_lost += disk.cut_power()
            trial.resets += 1


def make_disk(folder: Path) -> Path:
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


def test_what_was_acknowledged_survives_resets_at_random_moments(booted: Booted, tmp_path: Path) -> None:
    started = time.monotonic()
    trial = reset_often(booted, tmp_path, RESETS)
    print(f"{trial.resets} resets, {trial.acknowledged} revisions, {trial.sectors_lost} sectors lost,")
    print(f"{time.monotonic() - started:.0f} s")
    assert trial.faults == []
    assert trial.resets == RESETS


def test_a_store_that_does_not_sync_is_found_out(booted: Booted, tmp_path: Path) -> None:
    """Negative control: the same with PRAGMA synchronous = OFF and without fsync loses what it acknowledged."""
    trial = reset_often(booted, tmp_path, CONTROL_RESETS, Syncing.TAKEN_OUT)
    assert any("was acknowledged, and history ends at" in fault for fault in trial.faults), trial


def test_a_disk_that_ignores_flushes_is_found_out(booted: Booted, tmp_path: Path) -> None:
    """Negative control of the disk: if its write cache were not really lost, nothing would be missing here."""
    trial = reset_often(booted, tmp_path, CONTROL_RESETS, flushing=Flushing.IGNORED)
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
