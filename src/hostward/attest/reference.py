"""Reference values: what hosts may boot and run, in signed files of the operator's.

A part of the boot has alternatives, each the whole sequence of digests that it measures; a file has them by its path.
Each may have a window, and what was replaced is let pass for a grace, with a warning, so that an update needs no moment
at which every host changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hostward.attest.algorithms import BY_NAME, STRONG
from hostward.attest.components import Component
from hostward.errors import EvidenceError

FORMAT = "hostward-reference-values/1"
MOST_BYTES = 64 << 20
_GRACE = timedelta(days=7)
_MOST_SHOWN = 80


class Standing(Enum):
    """Whether a value counts at a moment."""

    CURRENT = "current"
    SUPERSEDED = "superseded"  # replaced, within its grace
    NOT_YET = "not valid yet"
    OVER = "no longer valid"


@dataclass(frozen=True, slots=True)
class Window:
    """When a value counts; ``replaced`` begins the grace."""

    since: datetime | None = None
    until: datetime | None = None
    replaced: datetime | None = None
    grace: timedelta = _GRACE

    def standing(self, now: datetime) -> Standing:
        """At this moment."""
        if self.since is not None and now < self.since:
            return Standing.NOT_YET
        if self.until is not None and now > self.until:
            return Standing.OVER
        if self.replaced is not None and now >= self.replaced:
            return Standing.SUPERSEDED if now < self.replaced + self.grace else Standing.OVER
        return Standing.CURRENT


ALWAYS = Window()


@dataclass(frozen=True, slots=True)
class Alternative:
    """One state of a part: digests by bank, in the order measured."""

    label: str
    digests: Mapping[str, tuple[bytes, ...]]
    window: Window


@dataclass(slots=True)
class Reference:
    """All reference values together. ``files`` are by path, algorithm and digest, for one look-up an entry."""

    parts: dict[Component, list[Alternative]] = field(default_factory=dict)
    files: dict[tuple[str, str, bytes], Window] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)  # path -> digests, for explanations
    tolerated: list[tuple[str, str]] = field(default_factory=list)  # pattern of a path, and why
    digest: str = ""  # of the files read: what was judged by others has to be judged again

    def tolerates(self, path: str) -> str:
        """Why a name may hold anything, empty if it may not."""
        return next((why for pattern, why in self.tolerated if fnmatchcase(path, pattern)), "")


def verify_reference(content: bytes, signature: bytes, keys: Sequence[Ed25519PublicKey]) -> None:
    """Whether one of these keys signed the file, byte for byte. Raises EvidenceError."""
    for key in keys:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return
    raise EvidenceError("the reference values are signed by none of the keys that may")


def read_reference(contents: Sequence[bytes]) -> Reference:
    """Read files whose signatures were checked, together: alternatives add up. Raises EvidenceError."""
    digests = sorted(hashlib.sha256(content).digest() for content in contents)
    reference = Reference(digest=hashlib.sha256(b"".join(digests)).hexdigest())
    for content in contents:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise EvidenceError(f"reference values that are no JSON: {str(error)[:_MOST_SHOWN]}") from error
        try:
            _add(reference, document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvidenceError(
                f"reference values that cannot be read: {type(error).__name__}: {str(error)[:_MOST_SHOWN]}",
                hint="docs/reference/evidence.md shows the format",
            ) from error
    return reference


def _add(reference: Reference, document: dict[str, Any]) -> None:
    if document["format"] != FORMAT:
        raise ValueError(f"the format is {document['format']!r}, not {FORMAT!r}")
    unknown = set(document) - {"format", "grace_s", "components", "files", "tolerated"}
    if unknown:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    grace = timedelta(seconds=float(document.get("grace_s", _GRACE.total_seconds())))
    for name, alternatives in document.get("components", {}).items():
        if name == Component.MONITOR:
            raise ValueError("what the monitor measures is listed among the files, as hostward:NAME")
        part = reference.parts.setdefault(Component(name), [])
        for each in alternatives:
            part.append(Alternative(str(each.get("label", "")), _banks(each["digests"]), _window(each, grace)))
    for path, alternatives in document.get("files", {}).items():
        for each in alternatives:
            value = each if isinstance(each, str) else each["digest"]
            algorithm, _, digest = value.partition(":")
            if algorithm not in BY_NAME or BY_NAME[algorithm].algorithm not in STRONG:
                raise ValueError(f"{path}: a digest by {algorithm!r}")
            window = ALWAYS if isinstance(each, str) else _window(each, grace)
            reference.files[path, algorithm, _digest(algorithm, digest)] = window
            reference.paths.setdefault(path, []).append(value)
    for each in document.get("tolerated", ()):
        reference.tolerated.append((str(each["path"]), str(each["why"])))


def _banks(of: dict[str, list[str]]) -> dict[str, tuple[bytes, ...]]:
    return {bank: tuple(_digest(bank, digest) for digest in digests) for bank, digests in of.items()}


def _digest(algorithm: str, text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != BY_NAME[algorithm].size:
        raise ValueError(f"a {algorithm} digest of {len(digest)} bytes")
    return digest


def _window(value: dict[str, Any], grace: timedelta) -> Window:
    unknown = set(value) - {"label", "digests", "digest", "from", "until", "replaced"}
    if unknown:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    return Window(_time(value.get("from")), _time(value.get("until")), _time(value.get("replaced")), grace)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text} has no zone: write 2026-11-28T00:00:00Z")
    return time.astimezone(UTC)
