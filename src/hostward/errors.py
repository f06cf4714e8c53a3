"""Every error that Hostward raises, drawn as one tree.

An error says what happened, to which object, and what to do next. The CLI prints the three and picks the exit status from
the class; nothing else may turn an error into text for an operator. This module must not import anything of Hostward.

    HostwardError                     exit 1
    ├── UsageError                    exit 2   the command line or a call was wrong
    ├── PolicyError                   exit 1   a policy file was refused; carries the places
    ├── CapacityError                 exit 1   a change would not fit; names what and by how much
    ├── AccessError                   exit 1   whoever asks may not do this
    ├── NotFoundError                 exit 1
    ├── ConflictError                 exit 1   the object is not in the state that the call assumed
    ├── DeviceError                   exit 1   a network device cannot be, or no longer is, an endpoint's port
    ├── DatapathError                 exit 1   the kernel refused something
    ├── EnrolmentError                exit 1   a host could not prove who it is
    ├── EvidenceError                 exit 1   evidence of a host cannot be read, or is not genuine; says where
    ├── TpmError                      exit 1   this host's TPM, or a log of what it measured, cannot be used
    ├── LeaseError                    exit 1   a gate refused a grant or a pulse
    ├── ChannelError                  exit 1   agent and controller do not understand or reach each other
    └── StoreError                    exit 1   state could not be read or written durably
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One located mistake in a policy file; line and column count from 1, and are 0 where the whole file is meant."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line == 0 else f"{self.file}:{self.line}:{self.column}"
        text = f"{place}: {self.message}"
        return f"{text}\n  {self.hint}" if self.hint else text


class HostwardError(Exception):
    """What happened (``what``), to which object (``subject``, empty if none) and what to do next (``hint``)."""

    exit_status = 1

    def __init__(self, what: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.subject}: {self.what}" if self.subject else self.what
        return f"{head}\n  {self.hint}" if self.hint else head


class UsageError(HostwardError):
    """The caller used a command or a function wrongly; nothing was done."""

    exit_status = 2


class PolicyError(HostwardError):
    """A policy was refused; ``problems`` lists every mistake found, in the order of files and lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems) or "the policy was refused")
        self.problems = problems


class CapacityError(HostwardError):
    """A change would exceed a quota or the size of a kernel map; the state before it stays."""


class AccessError(HostwardError):
    """Whoever asks is known, and may not do this."""


class NotFoundError(HostwardError):
    """The named object does not exist (or is not visible to the caller: the two look alike on purpose)."""


class ConflictError(HostwardError):
    """The object is not in the state that the call assumed."""


class DeviceError(HostwardError):
    """A network device cannot carry an endpoint, or has gone away."""


class DatapathError(HostwardError):
    """The kernel refused to load, attach or write something."""


class EnrolmentError(HostwardError):
    """A host's token, key or certificate was refused."""


class EvidenceError(HostwardError):
    """Evidence is malformed or not genuine; ``offset`` is the byte to blame, None where there is no such byte."""

    def __init__(self, what: str, *, offset: int | None = None, subject: str = "", hint: str = "") -> None:
        super().__init__(what if offset is None else f"offset {offset}: {what}", subject=subject, hint=hint)
        self.reason = what
        self.offset = offset


class TpmError(HostwardError):
    """A TPM refused a command, or what was measured into it cannot be read; ``code`` is its answer (TSS2_RC), 0 if none."""

    def __init__(self, what: str, *, code: int = 0, subject: str = "", hint: str = "") -> None:
        super().__init__(what, subject=subject, hint=hint)
        self.code = code


class LeaseError(HostwardError):
    """A grant or a pulse was refused; the gate's state is what it was before."""


class ChannelError(HostwardError):
    """Agent and controller do not reach or do not understand each other."""


class StoreError(HostwardError):
    """State could not be read, or not be written durably."""
