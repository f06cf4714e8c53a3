"""Which hooks a test runs on: ``tcx`` where the kernel has it, ``clsact`` everywhere."""

from __future__ import annotations

import pytest

from hostward.datapath.kernel import default_hook

NO_TCX = "this kernel has no tcx (Linux 6.6)"
needs_tcx = pytest.mark.skipif(default_hook() != "tcx", reason=NO_TCX)
on_every_hook = pytest.mark.parametrize("hook", [pytest.param("tcx", marks=needs_tcx), "clsact"])
