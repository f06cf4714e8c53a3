"""What is fuzzed, and one good input for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.attester import NOW, host

from hostward.attest.appraisal import Trust, appraise
from hostward.attest.certificate import parse_certificate
from hostward.attest.ek_certificate import endorse
from hostward.attest.eventlog import parse_event_log, replay
from hostward.attest.eventlog.describe import describe_event
from hostward.attest.eventlog.replay import replayable
from hostward.attest.findings import WAIVABLE
from hostward.attest.ima import Checkpoint, TemplateMemory, parse_ima
from hostward.attest.ima_ascii import binary_form
from hostward.attest.memory import VerifierMemory
from hostward.attest.public import parse_public
from hostward.attest.quote import parse_quote
from hostward.attest.signature import parse_signature

_HOST = host(files=3)
_NONCE = b"n" * 32
_EVIDENCE = _HOST.evidence(_NONCE)
_EK = parse_public(_EVIDENCE.ek)
_ROOT = parse_certificate(_HOST.maker.root())


def _event_log(data: bytes) -> None:
    log = parse_event_log(data)
    for event in log.events:
        describe_event(event)
    for bank in replayable(log):
        replay(log, bank)


def _ima(data: bytes) -> None:
    parse_ima(data, Checkpoint(), TemplateMemory())


def _ima_text(data: bytes) -> None:
    _ima(binary_form(data))


def _certificate(data: bytes) -> None:
    endorse(_EK, data, (_HOST.maker.ca(),), (_ROOT,), frozenset(), NOW)


def _appraisal(data: bytes) -> None:
    """The logs of a host whose quote is genuine: the first two bytes say where one ends and the other begins."""
    from dataclasses import replace

    at = int.from_bytes(data[:2], "little")
    evidence = replace(_EVIDENCE, event_log=data[2 : 2 + at], ima=data[2 + at :])
    appraise(evidence, Trust(roots=(_ROOT,), without=frozenset(WAIVABLE)), _NONCE, NOW, VerifierMemory())


TARGETS: Mapping[str, Callable[[bytes], object]] = {
    "quote": parse_quote,
    "public": parse_public,
    "signature": parse_signature,
    "eventlog": _event_log,
    "ima": _ima,
    "ima-text": _ima_text,
    "certificate": _certificate,
    "appraisal": _appraisal,
}


def seeds() -> dict[str, bytes]:
    """A good input for each target."""
    log, ima = _EVIDENCE.event_log, _EVIDENCE.ima
    return {
        "quote": _EVIDENCE.quote,
        "public": _EVIDENCE.ak,
        "signature": _EVIDENCE.signature,
        "eventlog": log,
        "ima": ima,
        "ima-text": "".join(_HOST.ima.text).encode(),
        "certificate": _EVIDENCE.ek_certificate or b"",
        "appraisal": len(log).to_bytes(2, "little") + log + ima,
    }
