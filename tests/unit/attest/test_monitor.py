"""PCR 15: what the monitor measured is read to the letter, and every measurement of code has to be known."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from bench.attester import NOW, BootLog, boot_log

from hostward.attest.algorithms import SHA256, SHA384
from hostward.attest.boot import BootFacts, read_boot
from hostward.attest.comparison import compare_boot
from hostward.attest.components import Component
from hostward.attest.eventlog import EventType, parse_event_log
from hostward.attest.findings import Finding, Rule, Tier
from hostward.attest.monitor import Measurement, compare_monitor, parse_measurement, read_monitor
from hostward.attest.reference import FORMAT, Reference, read_reference
from hostward.errors import EvidenceError

ONE, OTHER = (hashlib.sha256(each).digest() for each in (b"one", b"other"))
GOOD = Measurement("package", ONE)


def booted(*events: bytes | tuple[bytes, bytes], kind: EventType = EventType.EV_IPL) -> BootFacts:
    """A boot whose monitor measured these: data, or data and what was hashed in its place."""
    log = boot_log()
    for each in events:
        data, hashed = each if isinstance(each, tuple) else (each, each)
        log.add(15, kind, data, hashed)
    return facts_of(log)


def facts_of(log: BootLog) -> BootFacts:
    return read_boot(parse_event_log(bytes(log.data)), SHA256)


def reference(**files: list[Any]) -> Reference:
    document = {"format": FORMAT, "files": {name.replace("__", ":"): values for name, values in files.items()}}
    return read_reference([json.dumps(document).encode()])


def compared(boot: BootFacts, values: Reference) -> list[Finding]:
    measured, findings = read_monitor(boot)
    return findings + compare_monitor(measured, values, NOW)


def text(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"


def test_what_was_measured_is_read_in_order() -> None:
    expected = [GOOD, Measurement("object:endpoint.bpf.o", OTHER), Measurement("config:a/b@1", ONE), GOOD]
    measured, findings = read_monitor(booted(*(each.data() for each in expected)))
    assert measured == expected
    assert not findings


@pytest.mark.parametrize("kind", [EventType.EV_EVENT_TAG, EventType.EV_SEPARATOR, EventType.EV_EFI_ACTION])
def test_the_type_is_a_label_and_decides_nothing(kind: EventType) -> None:
    assert read_monitor(booted(GOOD.data(), kind=kind))[0] == [GOOD]


HOSTILE: dict[str, bytes | tuple[bytes, bytes]] = {
    "nothing": b"",
    "separator": bytes(4),
    "another prefix": b"Hostward:package=" + text(ONE).encode(),
    "upper case": b"hostward:package=sha256:" + ONE.hex().upper().encode(),
    "trailing zero": GOOD.data() + b"\0",
    "trailing line feed": GOOD.data() + b"\n",
    "leading space": b" " + GOOD.data(),
    "cut digest": GOOD.data()[:-2],
    "longer digest": GOOD.data() + b"00",
    "sha-1": b"hostward:package=sha1:" + bytes(20).hex().encode(),
    "no name": b"hostward:=" + text(ONE).encode(),
    "another name": b"hostward:firmware=" + text(ONE).encode(),
    "a package of a name": b"hostward:package:x=" + text(ONE).encode(),
    "an object without a name": b"hostward:object:=" + text(ONE).encode(),
    "two": GOOD.data() + GOOD.data(),
    "an equals sign in the name": b"hostward:config:a=b=" + text(ONE).encode(),
    "a name that a terminal obeys": b"hostward:config:\x1b[2J=" + text(ONE).encode(),
    "not ascii": "hostward:config:ä=".encode() + text(ONE).encode(),
    "a long name": b"hostward:config:" + b"x" * 200 + b"=" + text(ONE).encode(),
    "data that was not measured": (GOOD.data(), b"something else"),
    "data with a zero that was not hashed": (GOOD.data() + b"\0", GOOD.data()),
    "a tag whose content was hashed": (bytes(8) + GOOD.data(), GOOD.data()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_in_the_pcr_fails_and_is_not_believed(name: str) -> None:
    measured, findings = read_monitor(booted(GOOD.data(), HOSTILE[name]))
    assert measured == [GOOD]
    assert [(each.rule, each.tier) for each in findings] == [(Rule.MONITOR_COMPONENT, Tier.CONTRAINDICATED)]
    assert "PCR 15" in findings[0].where
    assert findings[0].what.isprintable()


def test_a_measurement_is_written_as_it_is_read() -> None:
    assert parse_measurement(GOOD.data()) == GOOD
    for name in ("", "object:", "config:a b", "other", "object:\0"):
        with pytest.raises(EvidenceError):
            Measurement(name, ONE)
    with pytest.raises(EvidenceError):
        Measurement("package", ONE[:-1])


def test_the_digest_of_the_bank_that_is_quoted_counts() -> None:
    log = BootLog((SHA256, SHA384))
    log.data += boot_log((SHA256, SHA384)).data[len(log.data) :]
    log.add(15, EventType.EV_IPL, GOOD.data())
    whole = bytes(log.data)
    forged = whole.replace(SHA256.digest(GOOD.data()), bytes(32))
    assert forged != whole
    parsed = parse_event_log(forged)
    assert read_monitor(read_boot(parsed, SHA384))[0] == [GOOD]
    assert read_monitor(read_boot(parsed, SHA256))[0] == []


def rules(findings: list[Finding]) -> list[tuple[Rule, Tier]]:
    return [(each.rule, each.tier) for each in findings]


FAILS, PASSES = (Rule.MONITOR_COMPONENT, Tier.CONTRAINDICATED), (Rule.MONITOR_COMPONENT, Tier.AFFIRMING)


def test_code_has_to_be_known_and_configuration_is_on_record() -> None:
    values = reference(hostward__package=[text(ONE)], hostward__object__x=[text(ONE), text(OTHER)])
    good = [GOOD, Measurement("object:x", ONE), Measurement("object:x", OTHER), Measurement("config:x", OTHER)]
    assert rules(compared(booted(*(each.data() for each in good)), values)) == [PASSES]
    for bad in (Measurement("package", OTHER), Measurement("object:y", ONE), Measurement("object:x", bytes(32))):
        # Not only the last of a name: what ran once may have left anything behind.
        events = [*good, bad, *good]
        assert rules(compared(booted(*(each.data() for each in events)), values)) == [FAILS, PASSES]


def test_expected_values_are_shown() -> None:
    values = reference(hostward__package=[text(ONE)])
    finding = compared(booted(Measurement("package", OTHER).data()), values)[0]
    assert finding.expected == text(ONE)
    assert text(OTHER) in finding.what


def test_a_monitor_that_measures_nothing_fails_where_one_is_expected() -> None:
    assert rules(compared(booted(), reference(hostward__package=[text(ONE)]))) == [FAILS]
    configured = booted(Measurement("config:x", ONE).data())
    assert rules(compared(configured, reference(hostward__package=[text(ONE)]))) == [FAILS]
    assert compared(booted(), reference(other=[text(ONE)])) == []


def test_values_have_their_window() -> None:
    replaced = {"digest": text(ONE), "replaced": (NOW - timedelta(days=1)).isoformat()}
    boot = booted(GOOD.data())
    superseded = rules(compared(boot, reference(hostward__package=[replaced])))
    assert superseded == [(Rule.BOOT_SUPERSEDED, Tier.WARNING), PASSES]
    over = {"digest": text(ONE), "until": (NOW - timedelta(days=1)).isoformat()}
    assert rules(compared(boot, reference(hostward__package=[over]))) == [FAILS, PASSES]


def test_no_pattern_lets_the_monitor_pass() -> None:
    document = {"format": FORMAT, "tolerated": [{"path": "*", "why": "everything"}]}
    assert rules(compared(booted(GOOD.data()), read_reference([json.dumps(document).encode()]))) == [FAILS, PASSES]


def test_it_is_no_sequence_and_none_can_be_given() -> None:
    boot = booted(GOOD.data())
    assert Component.MONITOR in boot.parts
    assert all("monitor" not in each.what for each in compare_boot(boot, Reference(), NOW))
    document = {"format": FORMAT, "components": {"monitor": [{"digests": {"sha256": [ONE.hex()]}}]}}
    with pytest.raises(EvidenceError, match="hostward:NAME"):
        read_reference([json.dumps(document).encode()])
