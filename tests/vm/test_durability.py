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

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.change_stream import digest, endpoints, policy_text
from tests.vm.hard_resets import Booted, Syncing, boot, faults, reset_often
from tests.vm.volatile_disk import Flushing

RESETS = int(os.environ.get("HOSTWARD_RESETS", "6"))
# A control that has lost nothing after so many resets shows that the test tests nothing.
CONTROL_RESETS = 6
SECONDS_A_RESET = 45

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120 + SECONDS_A_RESET * max(RESETS, CONTROL_RESETS))]


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """One boot for all resets of this module."""
    folder = tmp_path_factory.mktemp("boot")
    try:
        yield boot(folder)
    finally:
        shutil.rmtree(folder)  # pytest keeps its folders, and this is big


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
