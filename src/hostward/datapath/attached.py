"""What is attached and what decides, as the kernel has it: digests to attest, and to compare with what was attested.

Nothing is changed, and no enforcer has to be open in this process. Where things stand in the maps, stamps, counters,
quarantines and flows leave no trace in a digest, and neither does loading the same object again: an agent that comes back
and enforces the same finds the same. See docs/adr/0022-what-is-attached.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hostward import _core
from hostward.errors import DatapathError

# Not a port's name, which has a tenant's before the slash.
TABLES = "tables"


@dataclass(frozen=True, slots=True)
class Attached:
    """SHA-256 digests. ``programs`` are by endpoint (``tenant/name``), and ``processes/NAME`` for what watches processes.

    ``policies`` are by endpoint too, and ``tables`` is what they share: which address is which peer.
    """

    programs: Mapping[str, bytes]
    policies: Mapping[str, bytes]


class AttachedReader:
    """Reads again and again; a program that it has read is not read again, because a loaded program cannot change.

    ``by_number`` is for a process without CAP_SYS_ADMIN: what only has a number is told by it, and what is written into
    such a map stays unseen.
    """

    def __init__(self, pins: Path, *, by_number: bool = False) -> None:
        self._core = _core.Attached(str(pins), by_number)

    def read(self) -> Attached:
        """What is there now; from any thread. Raises DatapathError if what is pinned cannot be read."""
        try:
            programs, policies = self._core.read()
        except _core.CoreError as error:
            raise DatapathError(f"what is attached cannot be read: {error}", hint="it takes CAP_SYS_ADMIN") from error
        return Attached(
            {_name(folder): digest for folder, digest in programs.items()},
            {_name(folder): digest for folder, digest in policies.items()},
        )


def read_attached(pins: Path) -> Attached:
    """What is pinned under ``pins``, once. Raises DatapathError."""
    return AttachedReader(pins).read()


def _name(folder: str) -> str:
    """An endpoint's name from the folder of its pins, ``SLOT@TENANT@NAME``."""
    slot, at, name = folder.partition("@")
    return unquote(name.replace("@", "/", 1)) if at and slot.isdigit() else folder
