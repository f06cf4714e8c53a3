"""The ``[inspector]`` table of an agent's file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import msgspec

from hostward.agent.inspection import InspectorSettings, Profile
from hostward.errors import UsageError

PROGRAM = "hostward-inspector"

_Sids = list[Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)]]


class ProfileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[inspector.profiles]``; ``without`` is taken out, whatever the rest says."""

    files: list[str] = []
    classtypes: list[str] = []
    signatures: _Sids = []
    without: _Sids = []

    def profile(self) -> Profile:
        """The same for the agent."""
        return Profile(tuple(self.files), tuple(self.classtypes), tuple(self.signatures), tuple(self.without))


class InspectorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``InspectorSettings``; without ``cache`` and ``log`` they lie in the agent's state."""

    rules: list[str] = []
    profiles: dict[str, ProfileConfig] = {}
    variables: dict[str, str] = {}
    user: str = "nobody"
    memory_mib: Annotated[int, msgspec.Meta(ge=256, le=1 << 20)] = 2_048
    cache: Path | None = None
    log: Path | None = None
    log_mib: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 100
    log_keep: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 5
    syslog: Annotated[str, msgspec.Meta(pattern=r"^$|^/|^.+:\d{1,5}$")] = ""
    webhooks: list[Annotated[str, msgspec.Meta(pattern="^https?://[!-~]+$")]] = []
    ocsf: Path | None = None
    mirror: Annotated[str, msgspec.Meta(max_length=15)] = ""

    def settings(self, state: Path) -> InspectorSettings:
        """The same for the agent. Raises UsageError if the inspector is not installed, or would have nothing to do."""
        if not self.rules and not self.mirror:
            raise UsageError("an inspector needs signatures or a mirror", subject="inspector.rules")
        return InspectorSettings(
            tuple(self.rules),
            self.cache or state / "inspector" / "cache",
            inspector_program(),
            {name: profile.profile() for name, profile in self.profiles.items()},
            self.variables,
            self.user,
            self.memory_mib << 20,
            self.log or state / "inspector" / "eve.json",
            self.log_mib * 1_000_000,
            self.log_keep,
            self.syslog,
            tuple(self.webhooks),
            self.ocsf,
            self.mirror,
        )


def inspector_program() -> Path:
    """Where the inspector is: beside this Python, or on the path. Raises UsageError."""
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise UsageError("the inspector is not installed", subject=PROGRAM, hint="pip install 'hostward[inspect]'")
    return Path(found)
