"""`python -m fuzz --seconds 60`: random sequences until the time is over. What goes wrong is written, small, as cases.

Sequences that gave a new signal are kept in memory and changed further.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random

from fuzz.cases import write_case
from fuzz.ground import Ground, Step
from fuzz.mutations import mutate
from fuzz.sequences import conversation
from fuzz.trial import Trial, attempt, minimise

_BPFFS = Path("/sys/fs/bpf")
_MOST_KEPT = 3_000


class Fuzzer:
    """Makes sequences and remembers which were worth it."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground, self._rng = ground, Random(seed)
        self._corpus: list[list[Step]] = []
        self.signals: set[object] = set()
        self.sequences = self.frames = 0

    def try_one(self) -> tuple[list[Step], Trial]:
        """One sequence."""
        rng = self._rng
        if self._corpus and rng.random() < 0.6:
            steps = mutate(rng, rng.choice(self._corpus))
        else:
            steps = conversation(rng)
            steps = mutate(rng, steps) if rng.random() < 0.9 else steps
        trial = attempt(self._ground, steps)
        self.sequences += 1
        self.frames += len(steps)
        if not trial.signals <= self.signals:
            self.signals |= trial.signals
            if len(self._corpus) == _MOST_KEPT:
                self._corpus[rng.randrange(_MOST_KEPT)] = steps
            else:
                self._corpus.append(steps)
        return steps, trial


def kind_of(complaint: str) -> str:
    """A complaint without its numbers: of each kind one case is enough."""
    return re.sub(r"\d+", "N", complaint)


def _smallest(ground: Ground, steps: Sequence[Step], kind: str) -> list[Step]:
    return minimise(steps, lambda tried: kind in map(kind_of, attempt(ground, tried).complaints))


def main() -> int:
    """0: nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="the folder that cases are written to")
    asked = parser.parse_args()
    pins = _BPFFS / f"hwfuzz-{uuid.uuid4().hex[:8]}"
    found: set[str] = set()
    # Pins are removed whatever ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        ground = Ground(pins)
        fuzzer = Fuzzer(ground, asked.seed)
        end = time.monotonic() + asked.seconds
        while time.monotonic() < end:
            steps, trial = fuzzer.try_one()
            new = {kind_of(complaint) for complaint in trial.complaints} - found
            for kind in new:
                found.add(kind)
                _keep(ground, asked.out, steps, kind)
    finally:
        shutil.rmtree(pins, ignore_errors=True)
    print(
        f"seed {asked.seed}: {fuzzer.sequences:,} sequences, {fuzzer.frames:,} frames, "
        f"{len(fuzzer.signals):,} signals, {len(found)} kinds of mistake{f' in {asked.out}' if found else ''}"
    )
    return 1 if found else 0


def _keep(ground: Ground, folder: Path, steps: Sequence[Step], kind: str) -> None:
    small = _smallest(ground, steps, kind)
    trial = attempt(ground, small)
    folder.mkdir(parents=True, exist_ok=True)
    title = re.sub(r"^step N: ", "", kind)
    file = folder / (re.sub(r"[^a-z]+", "-", title.lower()).strip("-")[:80] + ".txt")
    file.write_text(write_case(title, trial.complaints, small, [word.replace(" ", "-") for word in trial.verdicts]))
    print(f"{file}: {title}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
