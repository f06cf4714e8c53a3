"""What a host's inspector is told by its operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Profile:
    """Which signatures ``inspect=NAME`` stands for: those of the files (names, ``*`` allowed) that have one of the class
    types, empty for any, and ``signatures`` by number besides; never those of ``without``.
    """

    files: tuple[str, ...] = ()
    classtypes: tuple[str, ...] = ()
    signatures: tuple[int, ...] = ()
    without: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InspectorSettings:
    """``rules`` are paths, ``*`` allowed. A profile that is not described has every signature.

    ``memory_bytes`` bounds the inspector's address space. Events go to ``log``, which is begun anew at ``log_bytes``,
    ``log_keep`` older ones being kept; alerts besides to ``syslog`` (``HOST:PORT`` over UDP, or a socket's path), to
    ``webhooks`` and, in OCSF's form, to ``ocsf``. Every frame that is inspected also leaves by the device ``mirror``, where
    another detector may listen.
    """

    rules: tuple[str, ...]
    cache: Path
    program: Path
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    user: str = "nobody"
    memory_bytes: int = 2 << 30
    log: Path | None = None
    log_bytes: int = 100_000_000
    log_keep: int = 5
    syslog: str = ""
    webhooks: tuple[str, ...] = ()
    ocsf: Path | None = None
    mirror: str = ""

    def files(self) -> tuple[Path, ...]:
        """The files of signatures that are there now, in order."""
        return tuple(Path(path) for pattern in self.rules for path in sorted(glob(pattern)))
