"""A small real network: a bridge with two namespaces behind veth ports, removed again whatever happens."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.pair import Pair

BPFFS = Path("/sys/fs/bpf")


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not BPFFS.is_mount():
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two workloads on one bridge; their ports are down until Hostward, or the test, brings them up."""
    made = Pair(uuid.uuid4().hex[:6])
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def pins() -> Iterator[Path]:
    """A folder of pins of its own."""
    path = BPFFS / f"hwtest-{uuid.uuid4().hex[:8]}"
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
