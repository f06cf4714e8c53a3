"""What the monitor measures of itself: everything once, and then what it is told of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hostward.agent import measured
from hostward.agent.measured import Monitor


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose files a test may change."""
    copy = tmp_path / "hostward"
    shutil.copytree(measured._PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "_core*"))
    monkeypatch.setattr(measured, "_PACKAGE", copy)
    return copy


class Measured:
    """In place of a TPM: what was measured last under each name."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}

    def __call__(self, name: str, digest: bytes) -> bool:
        new = self.last.get(name) != digest
        self.last[name] = digest
        return new


def test_what_was_told_of_is_read_again_and_nothing_else(package: Path) -> None:
    monitor, tpm = Monitor({}), Measured()
    assert monitor.measure(tpm)
    first = dict(tpm.last)
    changed, untold = package / "bpf/endpoint.bpf.o", package / "bpf/uplink.bpf.o"
    for path in (changed, untold):
        path.write_bytes(path.read_bytes() + b"\0")
    assert not monitor.measure(tpm)
    monitor.changed(changed)
    assert monitor.measure(tpm)
    assert {name for name in first if tpm.last[name] != first[name]} == {"package", "object:endpoint.bpf.o"}


def test_where_events_were_lost_everything_is_read_again(package: Path) -> None:
    monitor, tpm = Monitor({}), Measured()
    monitor.measure(tpm)
    first = dict(tpm.last)
    for name in ("endpoint", "uplink"):
        with (package / f"bpf/{name}.bpf.o").open("ab") as file:
            file.write(b"\0")
    monitor.changed(Path("all"))
    assert monitor.measure(tpm)
    assert first.keys() - {name for name in first if tpm.last[name] != first[name]} == {
        "object:process.bpf.o",
        "config:datapath",
    }


def test_a_file_that_is_new_or_gone_changes_the_package(package: Path) -> None:
    monitor, tpm = Monitor({}), Measured()
    monitor.measure(tpm)
    (package / "more.py").write_text("")
    assert monitor.measure(tpm)
    (package / "more.py").unlink()
    assert monitor.measure(tpm)
    assert not monitor.measure(tpm)
