"""Loaded by pytest inside a guest: a line of JSON for the kernel, for each test that is collected, for each that has ended.

Line by line, so that of a guest that hangs or dies the tests before are known. It says what happened and judges nothing.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence

import pytest


class Reporter:
    """Writes the lines: of xdist's workers the controller hears, and it alone speaks."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._collected: set[str] = set()
        self._say(kernel=platform.release())

    def _say(self, **record: object) -> None:
        with open(self._path, "a") as stream:
            stream.write(json.dumps(record) + "\n")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        for test in ids:
            if test not in self._collected:
                self._collected.add(test)
                self._say(collected=test)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._say(test=report.nodeid, outcome=report.outcome, text=_text(report), seconds=round(report.duration, 1))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._say(status=int(exitstatus))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(os.environ["HOSTWARD_GUEST_REPORT"]))


def _text(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
        return report.longrepr[2]
    return report.longreprtext if report.failed else ""
