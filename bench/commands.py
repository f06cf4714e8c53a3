"""Runs the tools of the benchmark, in network namespaces where asked; a failure names the tool and its last words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from hostward.errors import HostwardError

_HINT = "the benchmark needs root and the packages that `make setup` installs"


class BenchError(HostwardError):
    """The benchmark cannot be made, or what it measured would mean nothing."""


def inside(namespace: str) -> list[str]:
    """What goes before a command to run it in a network namespace, and in no other kind of namespace.

    ``ip netns exec`` would mount a /sys of its own, in which nothing is pinned.
    """
    return ["nsenter", f"--net=/run/netns/{namespace}", "--"]


def run(command: Sequence[str], *, given: str | None = None, limit_s: float = 30.0) -> str:
    """Run a command to its end; its output. Raises BenchError with its last words if it fails."""
    subject = " ".join(command[:6])
    try:
        done = subprocess.run(list(command), input=given, capture_output=True, text=True, timeout=limit_s, check=False)
    except FileNotFoundError as error:
        raise BenchError("is not installed", subject=str(error.filename), hint=_HINT) from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"did not end within {limit_s:.0f} s", subject=subject) from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(words[-1] if words else f"exit status {done.returncode}", subject=subject, hint=_HINT)
    return done.stdout
