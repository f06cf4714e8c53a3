"""Software TPMs of the lab: in a network namespace of their own, and booted once per start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.errors import HostwardError
from hostward.lab.processes import Started
from hostward.lab.tpm import make_tpm, software_boot, start_anywhere, start_tpm, tcti_of

SHOW = ["ss", "-Hltn"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tpm")
    make_tpm(base / "tpm", base / "ca")
    return base / "tpm"


@pytest.fixture
def network() -> Iterator[str]:
    name = f"hwtpm{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield f"/run/netns/{name}"
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def started(folder: Path, network: str) -> Iterator[Started]:
    process = start_tpm(folder, 2321, network)
    yield process
    process.end()
    assert not process.alive


def test_it_listens_in_the_hosts_network_and_is_nowhere_else_in_the_host(started: Started, network: str) -> None:
    inside = subprocess.run(["nsenter", f"--net={network}", *SHOW], capture_output=True, text=True, check=True).stdout
    assert {"127.0.0.1:2321", "127.0.0.1:2322"} <= set(inside.split())
    own = Path("/proc/self/ns")
    its = Path(f"/proc/{started.pid}/ns")
    assert (its / "net").readlink() != (own / "net").readlink()
    for kind in ("pid", "mnt", "user"):
        assert (its / kind).readlink() == (own / kind).readlink()


def test_a_tpm_is_booted_once_per_start(folder: Path, tmp_path: Path) -> None:
    started, port = start_anywhere(folder)
    try:
        first = software_boot(tcti_of(port), tmp_path / "boot", [])
        logs = first.boot_log.read_bytes(), first.ima_log.read_bytes()
        with pytest.raises(HostwardError, match="booted already"):
            software_boot(tcti_of(port), tmp_path / "boot", [])
        started.end()
        started, port = start_anywhere(folder)
        software_boot(tcti_of(port), tmp_path / "boot", [])
        assert logs == (first.boot_log.read_bytes(), first.ima_log.read_bytes()), "the same boot measures the same"
    finally:
        started.end()


def test_a_tpm_that_cannot_start_is_an_error(folder: Path, started: Started, network: str, tmp_path: Path) -> None:
    with pytest.raises(HostwardError, match="no software TPM was made here"):
        start_anywhere(tmp_path)
    with pytest.raises(HostwardError, match=r"does not start[\s\S]*Address already in use"):
        start_tpm(shutil.copytree(folder, tmp_path / "copy"), 2321, network)
