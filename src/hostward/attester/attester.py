"""This host's evidence: its TPM's identity, what its monitor measured, and quotes with the logs that explain them.

Calls block, for as long as the TPM takes, and belong into one thread. After an error of the TPM or of the way to it, the
next call connects anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostward.attest.algorithms import HASHES, SHA256, SHA384, SHA512, Hash
from hostward.attest.monitor import MONITOR_PCR, Measurement
from hostward.attester.attestation_key import attestation_key
from hostward.attester.endorsement import TpmIdentity, endorsement_key
from hostward.attester.host_logs import events_of, read_boot_log, read_ima
from hostward.attester.monitor_log import MonitorLog
from hostward.attester.tpm import LoadedKey, Tpm
from hostward.errors import EvidenceError, TpmError, UsageError
from hostward.private_files import make_private_directory

# Firmware, boot loader, kernel, IMA, monitor: whatever a log may speak of that nobody can reset.
QUOTED = tuple(range(16))
_QUOTABLE = (SHA256, SHA384, SHA512)
_MOST_QUALIFYING = 64


@dataclass(frozen=True, slots=True)
class AttesterSettings:
    """Where a host's TPM and logs are. ``tcti`` is as the TSS has it, `device:/dev/tpmrm0` say."""

    tcti: str
    state: Path  # for the attestation key and the monitor's log: private, and kept over restarts
    boot_log: Path
    ima_log: Path
    monitor_pcr: int = MONITOR_PCR  # the one that our verifier reads


@dataclass(frozen=True, slots=True)
class Collected:
    """A quote and the logs that explain it, as ``hostward.attest.appraisal.Evidence`` takes them."""

    quote: bytes
    signature: bytes
    event_log: bytes
    ima: bytes


@dataclass(slots=True)
class _Connected:
    """What lies in the TPM and in memory for as long as one connection lasts."""

    tpm: Tpm
    ek: LoadedKey
    ak: LoadedKey
    identity: TpmIdentity


class Attester:
    """One host's TPM. Nothing is opened before the first call; every call raises TpmError, or StoreError for its folder."""

    def __init__(self, settings: AttesterSettings) -> None:
        if not 11 <= settings.monitor_pcr <= 15:
            raise UsageError(
                f"PCR {settings.monitor_pcr} is not the monitor's",
                hint="11 to 15: those below are the firmware's and the kernel's, 16 and 23 anyone may reset",
            )
        self._settings = settings
        self._connected: _Connected | None = None
        self._monitor: MonitorLog | None = None

    def identity(self) -> TpmIdentity:
        """The TPM's keys and certificates."""
        with self._use() as connected:
            return connected.identity

    def activate(self, credential: bytes, secret: bytes) -> bytes:
        """Open what ``hostward.attest.credential`` wrapped: ``id_object`` and ``encrypted_secret``, lengths included."""
        with self._use() as connected:
            return connected.tpm.activate(connected.ak, connected.ek, credential, secret)

    def measure(self, name: str, digest: bytes) -> bool:
        """Measure a SHA-256 digest under a name, unless it is what was measured under it last; whether it was.

        Names are those of ``hostward.attest.monitor``: `package`, `object:…`, `config:…`. Raises UsageError for others.
        """
        try:
            measurement = Measurement(name, digest)
        except EvidenceError as error:
            raise UsageError(error.what) from error
        with self._use() as connected:
            monitor = self._monitor_log(connected.tpm)
            if monitor.last(name) == digest:
                return False
            try:
                monitor.append(measurement)
                self._extend(connected.tpm, measurement)
            except BaseException:
                self._give_up_monitor()  # log and PCR may differ: found out, and made good, at the next use
                raise
        return True

    def collect(self, qualifying: bytes, ima_offset: int) -> Collected:
        """A quote over ``qualifying`` (at most 64 bytes), the whole event log, and IMA's list from this byte on.

        Logs are read after the quote, so that they hold at least what it covers.
        """
        if len(qualifying) > _MOST_QUALIFYING:
            raise UsageError(f"qualifying data of {len(qualifying)} bytes, more than {_MOST_QUALIFYING}")
        with self._use() as connected:
            monitor = self._monitor_log(connected.tpm)
            log, read = read_boot_log(self._settings.boot_log)
            bank = self._quoted_bank(connected.tpm, read.banks)
            quote, signature = connected.tpm.quote(connected.ak, bank, QUOTED, qualifying)
            banks = [HASHES[each] for each in read.banks]
            log += events_of(monitor.measurements, self._settings.monitor_pcr, banks)
            return Collected(quote, signature, log, read_ima(self._settings.ima_log, ima_offset))

    def close(self) -> None:
        """Give the TPM's room back. A closed attester connects anew when it is used."""
        self._give_up_monitor()
        connected, self._connected = self._connected, None
        if connected is None:
            return
        try:
            for key in (connected.ak, connected.ek):
                connected.tpm.flush(key)
        except TpmError:
            pass  # the TPM is gone; whoever connects next flushes what is left
        finally:
            connected.tpm.close()

    @contextmanager
    def _use(self) -> Iterator[_Connected]:
        try:
            if self._connected is None:
                self._connected = self._connect()
            yield self._connected
        except TpmError as error:
            if error.code:  # the TPM's or the connection's: a handle may be of a TPM that was restarted
                self.close()
            raise

    def _connect(self) -> _Connected:
        make_private_directory(self._settings.state)
        tpm = Tpm(self._settings.tcti)
        keys: list[LoadedKey] = []
        try:
            ek, certificate, intermediates = endorsement_key(tpm)
            keys.append(ek)
            ak = attestation_key(tpm, ek, self._settings.state)
        except BaseException:
            try:
                for key in keys:
                    tpm.flush(key)
            finally:
                tpm.close()
            raise
        return _Connected(tpm, ek, ak, TpmIdentity(ek.public, certificate, intermediates, ak.public))

    def _monitor_log(self, tpm: Tpm) -> MonitorLog:
        """This boot's log, with the PCR brought to what it says."""
        if self._monitor is None:
            monitor = MonitorLog(self._settings.state, tpm.reset_count())
            try:
                self._reconcile(tpm, monitor)
                monitor.forget_other_boots()
            except BaseException:
                monitor.close()
                raise
            self._monitor = monitor
        return self._monitor

    def _reconcile(self, tpm: Tpm, monitor: MonitorLog) -> None:
        pcr, count = self._settings.monitor_pcr, len(monitor.measurements)
        values = {bank: tpm.read_pcr(bank, pcr) for bank in tpm.banks(pcr)}
        if all(value == monitor.replay(bank, count) for bank, value in values.items()):
            return
        if count and all(value == monitor.replay(bank, count - 1) for bank, value in values.items()):
            self._extend(tpm, monitor.measurements[-1])
            return
        raise TpmError(
            f"PCR {pcr} does not hold what the monitor's {count} measurements give: somebody else extended it",
            subject=self._settings.tcti,
            hint="restart the machine; if it comes again, look what measures there (systemd's units for PCR 15 do)",
        )

    def _extend(self, tpm: Tpm, measurement: Measurement) -> None:
        pcr, data = self._settings.monitor_pcr, measurement.data()
        tpm.extend(pcr, {bank: bank.digest(data) for bank in tpm.banks(pcr)})

    def _quoted_bank(self, tpm: Tpm, logged: tuple[int, ...]) -> Hash:
        active = tpm.banks(self._settings.monitor_pcr)
        for bank in _QUOTABLE:
            if bank in active and bank.algorithm in logged:
                return bank
        held, of_log = ", ".join(each.name for each in active), ", ".join(HASHES[each].name for each in logged)
        raise TpmError(
            f"no strong bank is in the TPM ({held or 'none'}) and in the boot log ({of_log}) alike",
            subject=self._settings.tcti,
            hint="switch the SHA-256 bank on in the firmware's settings",
        )

    def _give_up_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()
