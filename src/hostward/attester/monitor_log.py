"""The log of what the monitor measured into its PCR since this boot, durable before the PCR is extended.

Written first, so that a crash in between leaves the log one ahead of the PCR, which is told by replay and made good; the
other way round, the PCR could not be explained until the next boot.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from hostward.attest.algorithms import Hash
from hostward.attest.monitor import Measurement, parse_measurement
from hostward.errors import EvidenceError, TpmError

# With it the evidence's log stays far below what a verifier reads (8 MiB, 50,000 events).
MOST_MEASUREMENTS = 16_384
_PREFIX, _SUFFIX = "monitor-", ".log"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class MonitorLog:
    """One boot's log. The file is locked: two that measure would each know half."""

    def __init__(self, state: Path, reset_count: int) -> None:
        boot_id = _BOOT_ID.read_text().strip()
        self._path = state / f"{_PREFIX}{boot_id}-{reset_count}{_SUFFIX}"
        self.measurements: list[Measurement] = []
        self._last: dict[str, bytes] = {}
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._open()
            except BaseException:
                os.close(self._file)
                raise
        except BlockingIOError as error:
            raise TpmError("another process measures into this TPM", subject=str(self._path)) from error
        except OSError as error:
            raise TpmError(f"cannot be opened: {error.strerror}", subject=str(self._path)) from error

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._file)

    def last(self, name: str) -> bytes | None:
        """The digest that was measured last under this name."""
        return self._last.get(name)

    def append(self, measurement: Measurement) -> None:
        """Write a measurement; it is on the disk when this returns. Raises TpmError."""
        if len(self.measurements) >= MOST_MEASUREMENTS:
            raise TpmError(
                f"{MOST_MEASUREMENTS} measurements were made since the boot, and a verifier reads no more",
                subject=str(self._path),
                hint="restart the machine; something here changes far too often",
            )
        try:
            size = os.fstat(self._file).st_size
            try:
                line = measurement.data() + b"\n"
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise
        except OSError as error:
            raise TpmError(f"cannot be written: {error.strerror}", subject=str(self._path)) from error
        self._take(measurement)

    def replay(self, bank: Hash, count: int) -> bytes:
        """What the PCR holds in one bank after the first ``count`` measurements."""
        value = bytes(bank.size)
        for each in self.measurements[:count]:
            value = bank.extend(value, bank.digest(each.data()))
        return value

    def forget_other_boots(self) -> None:
        """Remove the logs of boots that are over: their PCRs are gone."""
        for path in self._path.parent.glob(f"{_PREFIX}*{_SUFFIX}"):
            if path != self._path:
                path.unlink(missing_ok=True)

    def _open(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._path.open("rb") as file:
            content = file.read()
        whole, _, torn = content.rpartition(b"\n")
        if torn:  # cut off by a crash: the PCR was not extended yet
            os.ftruncate(self._file, len(content) - len(torn))
        for line in whole.split(b"\n") if whole else ():
            try:
                self._take(parse_measurement(line))
            except EvidenceError as error:
                raise TpmError(
                    f"is damaged: {error.what}", subject=str(self._path), hint="restart the machine to begin a new one"
                ) from error
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # else a new file can be lost with the power, and the PCR be ahead
        finally:
            os.close(folder)

    def _take(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        self._last[measurement.name] = measurement.digest
