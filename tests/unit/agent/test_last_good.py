"""The slice on disk: it comes back exactly, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.agent.last_good import LAST_GOOD_FILE, keep_staged, load_last_good, stage_last_good
from hostward.errors import StoreError
from hostward.model.endpoint import Port
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row, empty_slice

WHOLE = ((0, 0),)
SLICE = HostSlice(
    revision=7,
    networks={1: "default"},
    endpoints={
        "acme/a": LocalEndpoint("acme/a", "acme", 1, "02:00:00:00:00:01", {"10.0.0.1": 256, "fd00::1": 257}, Port("v"))
    },
    addresses={(1, "0.0.0.0/0"): 1, (1, "10.0.0.0/8"): 2},
    class_sets={1: ClassSet(1, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)},
    rows={1: Row(1, 1, (5,))},
    tables={(256, "egress"): {1: 1}},
    decisions={5: Decision(5, "deny", ("acme/default-deny",))},
)


def save_last_good(directory: Path, slice_: HostSlice) -> None:
    stage_last_good(directory, slice_)
    keep_staged(directory)


def test_what_was_only_staged_is_not_the_last_good(tmp_path: Path) -> None:
    stage_last_good(tmp_path, SLICE)
    assert load_last_good(tmp_path) is None
    save_last_good(tmp_path, SLICE)
    stage_last_good(tmp_path, empty_slice(8))
    assert load_last_good(tmp_path) == SLICE


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    assert load_last_good(tmp_path) is None
    save_last_good(tmp_path, SLICE)
    assert load_last_good(tmp_path) == SLICE
    save_last_good(tmp_path, empty_slice(8))
    assert load_last_good(tmp_path) == empty_slice(8)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    save_last_good(tmp_path, SLICE)
    assert (tmp_path / LAST_GOOD_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [0, 1, 16, 17, 40, -1])
def test_a_part_of_it_is_refused(tmp_path: Path, cut: int) -> None:
    save_last_good(tmp_path, SLICE)
    path = tmp_path / LAST_GOOD_FILE
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreError, match="damaged"):
        load_last_good(tmp_path)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    save_last_good(tmp_path, SLICE)
    path = tmp_path / LAST_GOOD_FILE
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(StoreError, match="damaged"):
            load_last_good(tmp_path)
