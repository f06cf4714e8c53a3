"""What a boot log says of a boot, whatever it is compared with: PCR values, parts, and findings that need no reference.

The log is the host's word. What a rule believes is what the quoted PCR proves: an event's digest, its order among the
events of its PCR, and its data where that hashes to the digest. Its type is a label that anyone could have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostward.attest.algorithms import Hash
from hostward.attest.components import Component, component_of
from hostward.attest.eventlog import Event, EventLog, EventType, replay
from hostward.attest.eventlog.measured import matches_data
from hostward.attest.eventlog.types import is_known
from hostward.attest.eventlog.uefi_variable import parse_variable
from hostward.attest.findings import Finding, Rule, failed, warned
from hostward.errors import EvidenceError

_SEPARATED = range(8)  # PCRs that end with a separator
_SEPARATORS = (b"\0\0\0\0", b"\xff\xff\xff\xff")
_ERROR_SEPARATOR = b"\x01\0\0\0"
_SECURE_BOOT_PCR = 7
_IMAGES = (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, EventType.EV_EFI_BOOT_SERVICES_DRIVER)
_IMAGE_PCRS = (0, 2, 4)
_SHOWN_BYTES = 16
# Actions in PCR 7 that switch a protection off (profile, 3.3.4.8 and 10.4.4).
_DISARMING = {
    b"UEFI Debug Mode": "a debugger is attached to the firmware",
    b"DMA Protection Disabled": "devices can write to memory before the system starts",
}


@dataclass(frozen=True, slots=True)
class BootFacts:
    """A log that was judged by itself, in the bank that is quoted."""

    log: EventLog
    bank: Hash
    values: Mapping[int, bytes]
    parts: Mapping[Component, tuple[Event, ...]]
    secure_boot: bool | None  # None where the log does not prove either
    findings: tuple[Finding, ...]

    def digests(self, part: Component) -> tuple[bytes, ...]:
        """What was measured of a part, in order."""
        return tuple(event.digests[self.bank.algorithm] for event in self.parts.get(part, ()))


def read_boot(log: EventLog, bank: Hash) -> BootFacts:
    """Replay a log in one bank, and judge it. Raises EvidenceError if the log does not have the bank whole."""
    values = replay(log, bank)
    judge = _Judge(bank)
    for event in log.events:
        if event.extends:
            judge.take(event)
    judge.finish()
    parts = {part: tuple(events) for part, events in judge.parts.items()}
    return BootFacts(log, bank, values, parts, judge.secure_boot(), tuple(judge.findings))


class _Judge:
    """Takes the events in their order."""

    def __init__(self, bank: Hash) -> None:
        self._bank = bank
        self._separators = {bank.digest(data): data for data in (*_SEPARATORS, _ERROR_SEPARATOR)}
        self._closed: set[int] = set()
        self._secure_boot: list[bool] = []
        self._unproven_keys = False  # something in PCR 7 whose data is not what was measured, before its separator
        self.parts: dict[Component, list[Event]] = {}
        self.findings: list[Finding] = []

    def take(self, event: Event) -> None:
        genuine = matches_data(event, self._bank)
        separator = self._separators.get(event.digests[self._bank.algorithm])
        if event.pcr in _SEPARATED and (separator is not None or event.type == EventType.EV_SEPARATOR):
            self._separator(event, separator)
            return
        if genuine is False:
            self.findings.append(warned(Rule.BOOT_DATA, "its data is not what was measured", where=str(event)))
        if event.pcr == _SECURE_BOOT_PCR:
            self._keys(event, genuine)
        self._surprises(event)
        self.parts.setdefault(component_of(event, data_is_genuine=genuine is True), []).append(event)

    def finish(self) -> None:
        lacking = [str(pcr) for pcr in _SEPARATED if pcr not in self._closed]
        if lacking:
            what = f"PCR {', '.join(lacking)} was never closed by a separator"
            self.findings.append(failed(Rule.BOOT_SEPARATORS, what))

    def secure_boot(self) -> bool | None:
        """Only one value counts, before the separator, with everything beside it proven."""
        if self._unproven_keys or len(self._secure_boot) != 1:
            return None
        return self._secure_boot[0]

    def _separator(self, event: Event, proven: bytes | None) -> None:
        """``proven`` is the value that the digest is of: a separator is told by it, whatever the log calls the event."""
        where = str(event)
        if proven is None:
            what = "it is called a separator, and something else was measured"
            self.findings.append(failed(Rule.BOOT_DATA, what, where=where))
        elif proven == _ERROR_SEPARATOR:
            self.findings.append(failed(Rule.BOOT_ERROR, "firmware reports an error in this PCR", where=where))
        elif event.pcr in self._closed:
            self.findings.append(failed(Rule.BOOT_SEPARATORS, "a second separator in this PCR", where=where))
        elif event.type != EventType.EV_SEPARATOR or event.data != proven:
            shown = f"{event.type_name} with the data {event.data[:_SHOWN_BYTES].hex()}"
            self.findings.append(
                failed(Rule.BOOT_DATA, f"a separator was measured, and it is called {shown}", where=where)
            )
        self._closed.add(event.pcr)

    def _keys(self, event: Event, genuine: bool | None) -> None:
        if _SECURE_BOOT_PCR in self._closed:
            if _secure_boot_value(event) is not None:
                what = "Secure Boot is measured anew after its separator"
                self.findings.append(failed(Rule.BOOT_SURPRISE, what, where=str(event)))
            return
        if genuine is not True:
            self._unproven_keys = True
            return
        value = _secure_boot_value(event)
        if value is not None:
            self._secure_boot.append(value)
        disarmed = _DISARMING.get(event.data.rstrip(b"\0"))
        if disarmed:
            self.findings.append(failed(Rule.BOOT_SURPRISE, disarmed, where=str(event)))

    def _surprises(self, event: Event) -> None:
        where = str(event)
        if event.type == EventType.EV_OMIT_BOOT_DEVICE_EVENTS:
            self.findings.append(failed(Rule.BOOT_SURPRISE, "firmware leaves out what it boots from", where=where))
        elif event.type in _IMAGES and event.pcr not in _IMAGE_PCRS:
            what = "an image is measured into a PCR that is not for images"
            self.findings.append(failed(Rule.BOOT_SURPRISE, what, where=where))
        elif not is_known(event.type):
            what = f"an event of the unknown type {event.type_name}"
            self.findings.append(warned(Rule.BOOT_UNKNOWN, what, where=where))


def _secure_boot_value(event: Event) -> bool | None:
    """The value if the event is of this variable, whatever its type is said to be."""
    try:
        variable = parse_variable(event.data)
    except EvidenceError:
        return None
    return variable.content == b"\x01" if variable.name == "SecureBoot" else None
