"""A gate between a host and a fabric, and datagrams from one to the other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netns.gate.site import Site, gate_site
from tests.netns.test_gate_drivers import Line


@pytest.fixture
def site(pins: Path, tmp_path: Path) -> Iterator[Site]:
    with gate_site(uuid.uuid4().hex[:6], pins, tmp_path) as made:
        yield made


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    """Datagrams from the host to the fabric."""
    with ExitStack() as stack:
        yield Line(site.net, stack, ("a", "b"))
