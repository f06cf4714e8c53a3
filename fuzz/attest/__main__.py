"""Coverage-guided fuzzing of what reads hostile evidence (atheris; `pip install -e .[fuzz]`).

    PYTHONPATH=.:src .venv/bin/python -m fuzz.attest eventlog -max_total_time=60 corpus/

The first word is a target; the rest is libFuzzer's. A crash is any exception but EvidenceError, or more than two seconds
for an input, or memory beyond libFuzzer's bound. `python -m fuzz.attest seeds FOLDER` makes a good input for each target.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run a target, or write the seeds of all."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name == "seeds":
        _write_seeds(Path(sys.argv[1]))
        return
    import atheris

    with atheris.instrument_imports(include=["hostward.attest"]):
        from fuzz.attest.targets import TARGETS
    from hostward.errors import EvidenceError

    if name not in TARGETS:
        sys.exit(f"usage: python -m fuzz.attest {'|'.join(TARGETS)}|seeds …")
    target = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            target(data)
        except EvidenceError:
            return

    atheris.Setup([*sys.argv, "-timeout=2"], one)
    atheris.Fuzz()


def _write_seeds(folder: Path) -> None:
    from fuzz.attest.targets import seeds

    for name, content in seeds().items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "seed").write_bytes(content)


if __name__ == "__main__":
    main()
