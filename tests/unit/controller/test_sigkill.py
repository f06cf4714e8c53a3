"""A controller killed at random moments keeps what it acknowledged. (That the machine may die too: tests/vm.)"""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from tests.unit.controller.killed_controller import policy_text

from hostward.store.backup import check_database
from hostward.store.sqlite import SqliteStore

KILLS = 20
CHANGES_MAX = 8
MOMENT_S = 0.03
PROGRAM = Path(__file__).with_name("killed_controller.py")


def test_what_was_acknowledged_survives_twenty_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    random = Random(seed)
    state = tmp_path / "state"
    acknowledged = 0
    for _ in range(KILLS):
        acknowledged = _killed(state, random, acknowledged)
        _, head = check_database(state / "controller.db", "the database")
        assert head in (acknowledged, acknowledged + 1)
        store = SqliteStore(state / "controller.db")
        try:
            assert [record.number for record in store.revisions(head + 1)] == list(range(head, 0, -1))
            for revision in range(1, head + 1):
                assert store.policy_at(revision)["acme"].text == policy_text(revision)
        finally:
            store.close()
        acknowledged = head


def _killed(state: Path, random: Random, acknowledged: int) -> int:
    """Let a controller work for a random while, kill it, and return the last revision that it acknowledged."""
    with subprocess.Popen([sys.executable, PROGRAM, state], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for _ in range(random.randint(1, CHANGES_MAX)):
                line = process.stdout.readline()
                assert line, "the controller ended by itself"
                acknowledged = int(line)
            time.sleep(random.uniform(0.0, MOMENT_S))
        finally:
            process.kill()
        for line in process.stdout:
            acknowledged = int(line)
    return acknowledged
