"""A bar for what takes longer than a person waits without one; only on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What takes less needs no bar, and gets none.
PATIENCE_S = 2.0


@contextmanager
def waiting(what: str, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Show ``what`` and the time that has passed, from two seconds on, on stderr; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    drawing = threading.Thread(target=_draw, args=(what, done, patience_s), daemon=True)
    drawing.start()
    try:
        yield
    finally:
        done.set()
        drawing.join()


def _draw(what: str, done: threading.Event, patience_s: float) -> None:
    if done.wait(patience_s):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        done.wait()
