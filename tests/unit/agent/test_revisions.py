"""What an agent accepts: whole revisions, only upwards, and exactly what the controller meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.model_enforcer import ModelEnforcer

from hostward.agent.enforcement import Enforcement
from hostward.agent.last_good import LAST_GOOD_FILE, keep_staged, load_last_good, stage_last_good
from hostward.agent.messages import Ack, Delta, Nack, NackReason, Snapshot
from hostward.errors import CapacityError, DatapathError
from hostward.model.slice import Decision, HostSlice, empty_slice
from hostward.policy import diff_slices, digest_of, encode_slice, slice_digest


def _slice(revision: int, *numbers: int) -> HostSlice:
    return replace(empty_slice(revision), decisions={n: Decision(n, "deny", (f"acme/{n}",)) for n in numbers})


def _snapshot(slice_: HostSlice) -> Snapshot:
    return Snapshot(slice_.revision, encode_slice(slice_), slice_digest(slice_))


def _delta(old: HostSlice, new: HostSlice) -> Delta:
    return Delta(old.revision, new.revision, diff_slices(old, new), slice_digest(new))


def _with(folder: Path, enforcer: ModelEnforcer, work: Callable[[Enforcement], Awaitable[None]]) -> None:
    async def run() -> None:
        enforcement = Enforcement(enforcer, folder)
        try:
            await work(enforcement)
        finally:
            await enforcement.close()

    asyncio.run(run())


def test_a_snapshot_then_a_delta_are_in_force_and_on_disk(tmp_path: Path) -> None:
    enforcer = ModelEnforcer()

    async def work(enforcement: Enforcement) -> None:
        assert isinstance(await enforcement.take(_snapshot(_slice(1, 1))), Ack)
        answer = await enforcement.take(_delta(_slice(1, 1), _slice(2, 1, 2)))
        assert isinstance(answer, Ack)
        assert answer.revision == 2
        assert enforcement.digest == slice_digest(_slice(2, 1, 2))

    _with(tmp_path, enforcer, work)
    assert enforcer.slice == load_last_good(tmp_path) == _slice(2, 1, 2)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (_snapshot(_slice(4, 9)), NackReason.OLD),
        (_delta(_slice(5, 1), _slice(5, 9)), NackReason.OLD),
        (_delta(_slice(4, 1), _slice(6, 9)), NackReason.DIGEST),
        (Snapshot(6, encode_slice(_slice(6, 9)), slice_digest(_slice(6, 8))), NackReason.DIGEST),
        (Snapshot(7, encode_slice(_slice(6, 9)), slice_digest(_slice(6, 9))), NackReason.DIGEST),
        (Snapshot(6, b"no slice", digest_of(b"no slice")), NackReason.DIGEST),
    ],
    ids=[
        "an older snapshot",
        "a delta to the same revision",
        "a delta from another base",
        "not what was meant",
        "of another revision than was said",
        "not a slice",
    ],
)
def test_what_is_old_or_altered_is_refused_and_nothing_moves(
    tmp_path: Path, message: Snapshot | Delta, reason: NackReason
) -> None:
    enforcer = ModelEnforcer()

    async def work(enforcement: Enforcement) -> None:
        assert isinstance(await enforcement.take(_snapshot(_slice(5, 1))), Ack)
        answer = await enforcement.take(message)
        assert isinstance(answer, Nack)
        assert answer.reason is reason

    _with(tmp_path, enforcer, work)
    assert enforcer.slice == load_last_good(tmp_path) == _slice(5, 1)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(CapacityError("full"), NackReason.CAPACITY), (DatapathError("no memory"), NackReason.DATAPATH)],
)
def test_a_refusal_keeps_the_old_revision_in_force_and_on_disk(
    tmp_path: Path, refusal: Exception, reason: NackReason
) -> None:
    enforcer = ModelEnforcer()

    async def work(enforcement: Enforcement) -> None:
        await enforcement.take(_snapshot(_slice(1, 1)))
        enforcer.refuse = refusal
        answer = await enforcement.take(_delta(_slice(1, 1), _slice(2, 2)))
        assert isinstance(answer, Nack)
        assert answer.reason is reason
        assert enforcement.revision == 1
        # The base of the next delta is what is in force, not what was refused.
        enforcer.refuse = None
        assert isinstance(await enforcement.take(_delta(_slice(1, 1), _slice(3, 3))), Ack)

    _with(tmp_path, enforcer, work)
    assert enforcer.slice == load_last_good(tmp_path) == _slice(3, 3)


def test_the_same_revision_may_come_again_as_a_snapshot(tmp_path: Path) -> None:
    enforcer = ModelEnforcer()

    async def work(enforcement: Enforcement) -> None:
        await enforcement.take(_snapshot(_slice(3, 1)))
        assert isinstance(await enforcement.take(_snapshot(_slice(3, 1))), Ack)

    _with(tmp_path, enforcer, work)


def test_a_start_takes_the_slice_on_disk_but_never_an_older_one_than_the_kernels(tmp_path: Path) -> None:
    stage_last_good(tmp_path, _slice(4, 1))
    keep_staged(tmp_path)

    async def restore(enforcement: Enforcement) -> None:
        await enforcement.restore()

    behind, ahead = ModelEnforcer(), ModelEnforcer(revision=5)
    _with(tmp_path, behind, restore)
    assert behind.slice == _slice(4, 1)
    _with(tmp_path, ahead, restore)
    assert ahead.slice == empty_slice(5)


def test_a_damaged_slice_is_left_alone_and_a_snapshot_mends_it(tmp_path: Path) -> None:
    (tmp_path / LAST_GOOD_FILE).write_bytes(b"nonsense")
    enforcer = ModelEnforcer(revision=5)

    async def work(enforcement: Enforcement) -> None:
        await enforcement.restore()
        assert enforcer.slice == empty_slice(5)
        assert enforcement.digest == ""
        assert isinstance(await enforcement.take(_snapshot(_slice(5, 1))), Ack)

    _with(tmp_path, enforcer, work)
    assert load_last_good(tmp_path) == _slice(5, 1)
