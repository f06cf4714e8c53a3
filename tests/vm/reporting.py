"""Loaded by pytest inside a guest: one line of JSON for the kernel, each test that is collected, and for each that has ended.

Line by line, so that of a guest that hangs or dies the tests before are known. It says what happened and judges nothing.
"""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def _say(**record: object) -> None:
    with open(os.environ["HOSTWARD_GUEST_REPORT"], "a") as stream:
        stream.write(json.dumps(record) + "\n")


def pytest_collection_finish(session: pytest.Session) -> None:
    _say(kernel=platform.release())
    for item in session.items:
        _say(collected=item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        _say(test=report.nodeid, outcome=report.outcome, text=text, seconds=round(report.duration, 1))


def pytest_sessionfinish(exitstatus: int) -> None:
    _say(status=int(exitstatus))
