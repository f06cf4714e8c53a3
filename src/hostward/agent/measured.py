"""What the monitor consists of, and how it is measured before anything of it is used.

Names are those of ``hostward.attest.monitor``: the package as a whole, each eBPF object, and the datapath's configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path

import msgspec

import hostward
from hostward.errors import DatapathError

_PACKAGE = Path(hostward.__file__).parent
# What the interpreter keeps for itself; it is made from what is measured, and IMA measures what of it is run.
_LEFT_OUT = ("__pycache__",)


def objects() -> Mapping[str, Path]:
    """The eBPF objects that an agent loads, by the name under which they are measured."""
    return {f"object:{name}.bpf.o": _PACKAGE / "bpf" / f"{name}.bpf.o" for name in ("endpoint", "process", "uplink")}


def core_library() -> Path:
    """The library that loads and attaches them."""
    return next(iter(sorted(_PACKAGE.glob("_core*.so"))))


def files() -> Sequence[Path]:
    """Everything that the package's digest is over."""
    found = (path for path in _PACKAGE.rglob("*") if path.is_file() and not set(_LEFT_OUT) & set(path.parts))
    return sorted(found)


def package_digest(known: MutableMapping[Path, bytes]) -> bytes:
    """SHA-256 over names and contents of the package's files. Raises DatapathError if one cannot be read.

    ``known`` are digests of files that did not change since; those that are read are added.
    """
    digest = hashlib.sha256()
    for path in files():
        name = path.relative_to(_PACKAGE).as_posix().encode()
        digest.update(len(name).to_bytes(2, "big") + name + _file_digest(path, known))
    return digest.digest()


class Monitor:
    """Measures the monitor, and again when files changed; somebody watches them, and tells of each that did.

    Of files that nobody told of the digest is remembered: reading all of them takes longer than a gate may stay open.
    """

    def __init__(self, configuration: object) -> None:
        self._configuration = configuration
        self._known: dict[Path, bytes] = {}

    def changed(self, what: object) -> None:
        """A file may have changed; all of them, if this is none of them, as when events were lost."""
        if isinstance(what, Path) and what in self._known:
            del self._known[what]
        else:
            self._known.clear()

    def measure(self, measure: Callable[[str, bytes], bool]) -> bool:
        """Measure package, objects and configuration; whether anything was new. Raises what ``measure`` raises."""
        new = measure("package", package_digest(self._known))
        for name, path in objects().items():
            new |= measure(name, _file_digest(path, self._known))
        plain = msgspec.json.encode(self._configuration, order="sorted", enc_hook=str)
        return measure("config:datapath", hashlib.sha256(plain).digest()) | new


def _file_digest(path: Path, known: MutableMapping[Path, bytes]) -> bytes:
    if path in known:
        return known[path]
    try:
        with path.open("rb") as file:
            return known.setdefault(path, hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise DatapathError(f"a part of the monitor cannot be read: {error.strerror}", subject=str(path)) from error
