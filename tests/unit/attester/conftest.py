"""A real TPM in software for each test: manufactured once, copied, started, and ended whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.attester.machine import Machine

from hostward.attest.certificate import parse_certificate
from hostward.attest.pem import certificates_in
from hostward.lab.tpm import make_tpm, root_certificate


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two TPMs of one maker, never started since."""
    folder = tmp_path_factory.mktemp("factory")
    for name in ("one", "other"):
        make_tpm(folder / name, folder / "ca")
    return folder


@pytest.fixture
def machines(factory: Path, tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Makes machines that are booted: `one` and `other` have a TPM each."""
    made: list[Machine] = []

    def make(name: str) -> Machine:
        folder = tmp_path / name
        shutil.copytree(factory / name, folder / "tpm")
        program = folder / "program"
        program.write_bytes(b"a program")
        roots = [parse_certificate(each) for each in certificates_in(root_certificate(factory / "ca"))]
        machine = Machine(folder, roots, [program])
        made.append(machine)
        machine.start()
        return machine

    yield make
    for machine in made:
        machine.stop()


@pytest.fixture
def machine(machines: Callable[[str], Machine]) -> Machine:
    return machines("one")
