"""Whether an event's digest is of its data.

Only then may a rule believe what the data says: the TPM signed digests alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostward.attest.algorithms import HASHES, STRONG, Hash
from hostward.attest.eventlog.log import Event
from hostward.attest.eventlog.types import EventType

# Types whose digest the profile defines as the hash of the event data.
_OF_DATA = frozenset(
    {
        EventType.EV_SEPARATOR,
        EventType.EV_ACTION,
        EventType.EV_EFI_ACTION,
        EventType.EV_S_CRTM_VERSION,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_AUTHORITY,
        EventType.EV_EFI_VARIABLE_BOOT,
        EventType.EV_EFI_VARIABLE_BOOT2,
        EventType.EV_EFI_GPT_EVENT,
        EventType.EV_EFI_GPT_EVENT2,
    }
)
# What GRUB puts before the text that it hashes.
_GRUB = (b"grub_cmd: ", b"grub_cmd ", b"kernel_cmdline: ", b"grub_kernel_cmdline ", b"module_cmdline: ")
_VARIABLE_HEAD = 32


def matches_data(event: Event, bank: Hash | None = None) -> bool | None:
    """True or False where data and digest can be compared, else None (the digest is of a file, say).

    Decisions are made in the ``bank`` that is quoted: digests of another are anyone's word. Without it, any is looked at.
    """
    found = [(HASHES[number], digest) for number, digest in event.digests.items() if number in HASHES]
    if bank is not None:
        found = [each for each in found if each[0] is bank]
    if not event.extends or not found:
        return None
    known, digest = next((each for each in found if each[0].algorithm in STRONG), found[0])
    if any(known.digest(form) == digest for form in _forms(event)):
        return True
    decided = event.type in _OF_DATA or (event.type == EventType.EV_IPL and event.data.startswith(_GRUB))
    return False if decided else None


def _forms(event: Event) -> Iterator[bytes]:
    """What programs hash for an event that shows this data."""
    data = event.data
    yield data
    if event.type == EventType.EV_EFI_VARIABLE_BOOT:
        # Firmware before the profile's 1.04 hashes the variable's content alone.
        characters = int.from_bytes(data[16:24], "little")
        yield data[_VARIABLE_HEAD + 2 * characters :] if characters < len(data) else b""
    if event.type == EventType.EV_EFI_VARIABLE_AUTHORITY:
        yield data[:-1]  # shim before 15.5 logs a byte more than it hashes
    if event.type in (EventType.EV_IPL, EventType.EV_EVENT_TAG, EventType.EV_COMPACT_HASH):
        yield data.rstrip(b"\0")
        for prefix in _GRUB:
            if data.startswith(prefix):
                text = data[len(prefix) :]
                yield text
                yield text.rstrip(b"\0")
    if event.type == EventType.EV_EVENT_TAG:
        yield data[8:]  # some hash what the tag holds; Linux hashes the initrd or options that the tag only names
