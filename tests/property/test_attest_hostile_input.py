"""Whatever bytes a host sends are read or refused with EvidenceError; nothing else is raised, and nothing false passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bench.attester import NOW, host
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.attest.algorithms import HASHES
from hostward.attest.appraisal import Evidence, Trust, appraise
from hostward.attest.certificate import parse_certificate
from hostward.attest.ek_certificate import endorse
from hostward.attest.eventlog import parse_event_log, replay
from hostward.attest.eventlog.describe import describe_event
from hostward.attest.eventlog.replay import replayable, startup_locality
from hostward.attest.findings import WAIVABLE, Rule, Tier
from hostward.attest.ima import Checkpoint, TemplateMemory, parse_ima
from hostward.attest.ima_ascii import binary_form
from hostward.attest.memory import VerifierMemory
from hostward.attest.pem import certificates_in
from hostward.attest.public import parse_public
from hostward.attest.quote import parse_quote
from hostward.attest.reference import read_reference
from hostward.attest.signature import parse_signature
from hostward.errors import EvidenceError

EXAMPLES = settings(max_examples=300, deadline=None)
NONCE = b"n" * 32
GOOD = host(files=4)
RSA = host(ak=rsa.generate_private_key(65537, 2048), files=1)
EVIDENCE = GOOD.evidence(NONCE)
ROOT = parse_certificate(GOOD.maker.root())
TRUST = Trust(roots=[ROOT], enrolled_ak=GOOD.ak_name(), without=frozenset(WAIVABLE))
REFERENCE = b'{"format":"hostward-reference-values/1","files":{"/x":["sha256:00"]}}'
TEXT = "".join(GOOD.ima.text).encode()


@st.composite
def changed(draw: st.DrawFn, original: bytes) -> bytes:
    """Some bytes of it changed, taken out, doubled, or put in; lengths are what parsers trust too easily."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 64))
        match draw(st.sampled_from(["flip", "cut", "double", "insert", "end", "number"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + size]
            case "double":
                data[at:at] = data[at : at + size]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "end":
                del data[at:]
            case _:
                number = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]))
                data[at : at + 4] = number.to_bytes(4, draw(st.sampled_from(["little", "big"])))
    return bytes(data)


def read_log(data: bytes) -> None:
    log = parse_event_log(data)
    for event in log.events:
        describe_event(event)
    for bank in replayable(log):
        replay(log, bank)


READERS: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "quote": (EVIDENCE.quote, parse_quote),
    "signature": (EVIDENCE.signature, parse_signature),
    "RSA signature": (RSA.evidence(NONCE).signature, parse_signature),
    "ECC key": (EVIDENCE.ak, parse_public),
    "RSA key": (RSA.evidence(NONCE).ak, parse_public),
    "event log": (EVIDENCE.event_log, read_log),
    "IMA list": (EVIDENCE.ima, lambda data: parse_ima(data, Checkpoint(), TemplateMemory())),
    "IMA text": (TEXT, binary_form),
    "certificate": (EVIDENCE.ek_certificate or b"", parse_certificate),
    "PEM": (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", certificates_in),
    "reference values": (
        b'{"format":"hostward-reference-values/1","files":{"/x":["sha256:00"]}}',
        lambda d: read_reference([d]),
    ),
}


@pytest.mark.parametrize("name", READERS)
@EXAMPLES
@given(data=st.data())
def test_readers_raise_the_documented_error_alone(name: str, data: st.DataObject) -> None:
    original, read = READERS[name]
    content = data.draw(st.one_of(changed(original), st.binary(max_size=200)))
    refused = refusal(read, content)
    if refused is not None:
        assert refused.what
        assert refused.offset is None or 0 <= refused.offset <= len(content) + 4


def refusal(read: Callable[[bytes], Any], content: bytes) -> EvidenceError | None:
    """The documented error, if it was raised; any other goes through."""
    try:
        read(content)
    except EvidenceError as error:
        return error
    return None


@EXAMPLES
@given(content=changed(EVIDENCE.ek_certificate or b""))
def test_a_changed_certificate_endorses_nothing_new(content: bytes) -> None:
    """Whatever leniency reads, what was signed is what was signed."""
    try:
        found = endorse(parse_public(EVIDENCE.ek), content, (GOOD.maker.ca(),), [ROOT], frozenset(), NOW)
    except EvidenceError:
        return
    assert parse_certificate(content).signed == parse_certificate(EVIDENCE.ek_certificate or b"").signed
    assert found.model == "software"


FIELDS = ("quote", "signature", "ak", "event_log", "ima", "ek", "ek_certificate")


@EXAMPLES
@given(data=st.data(), field=st.sampled_from(FIELDS))
def test_an_appraisal_never_raises_and_proves_nothing_false(data: st.DataObject, field: str) -> None:
    content = data.draw(changed(getattr(EVIDENCE, field)))
    evidence: Evidence = replace(EVIDENCE, **{field: content})
    result = appraise(evidence, TRUST, NONCE, NOW, VerifierMemory())
    assert result.findings
    if result.tier is Tier.CONTRAINDICATED:
        return
    # What passes has the PCR values that were quoted, whatever else was changed around them.
    assert result.quote is not None
    assert result.boot is not None
    assert result.quote == parse_quote(EVIDENCE.quote)
    assert dict(result.boot.values) == GOOD.log.values["sha256"]
    assert [entry.template.path for entry in result.entries] == [
        "boot_aggregate",
        *(f"/usr/bin/tool-{n}" for n in range(4)),
    ]
    assert Rule.QUOTE_GENUINE in {finding.rule for finding in result.findings}


@EXAMPLES
@given(content=changed(EVIDENCE.event_log))
def test_a_log_that_is_read_is_replayed_in_every_bank_that_it_has_whole(content: bytes) -> None:
    try:
        log = parse_event_log(content)
        startup_locality(log.events)
    except EvidenceError:
        return
    for bank in replayable(log):
        values = replay(log, bank)
        assert set(values) == {event.pcr for event in log.events if event.extends}
        assert {len(value) for value in values.values()} <= {HASHES[bank.algorithm].size}
