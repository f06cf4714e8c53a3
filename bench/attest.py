"""The verifier: quotes of keys that are known, and whole appraisals of a host that was seen before, on one core.

A quote's time is from the bytes of TPMS_ATTEST and TPMT_SIGNATURE to a signature that holds. A whole appraisal has a boot
log of some 80 events, an IMA list of 1,000 entries sent from the start, an EK chain of two certificates, and reference
values for all of it; keys, certificates, boot log and templates are in the verifier's memory, as of a host that quotes
every 30 s. No TPM is in it: keys are of `bench.attester`. Times are of the processor, so that others who run do not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.attester import NOW, QUOTED, Host, PrivateKey, host, public_area, quote_message, selection, sign
from hostward.attest.algorithms import SHA256
from hostward.attest.appraisal import Trust, appraise
from hostward.attest.certificate import parse_certificate
from hostward.attest.findings import Tier
from hostward.attest.learning import learn
from hostward.attest.memory import VerifierMemory
from hostward.attest.public import parse_public
from hostward.attest.quote import parse_quote
from hostward.attest.reference import read_reference
from hostward.attest.signature import parse_signature, verify_signature
from hostward.errors import HostwardError

QUOTES_TARGET = 10_000.0  # a second
APPRAISAL_TARGET_MS = 2.0
FILES = 999  # and the boot's aggregate: 1,000 entries
_QUOTES = 500
_APPRAISALS = 50
_NONCE = b"n" * 32


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one operation, each the mean of a round's ``count``."""

    name: str
    count: int
    times_s: tuple[float, ...]


def run(rounds: int, say: Callable[[str], None]) -> list[Measured]:
    """Measure, in alternating rounds."""
    operations = {
        "its ECDSA verification alone": (_QUOTES, _floor()),
        "quote, ECDSA P-256": (_QUOTES, _quoting(ec.generate_private_key(ec.SECP256R1()))),
        "quote, RSA-2048": (_QUOTES, _quoting(rsa.generate_private_key(65_537, 2048))),
        "appraisal, warm": (_APPRAISALS, _appraising(host(files=FILES), warm=True)),
        "appraisal, cold": (_APPRAISALS, _appraising(host(files=FILES), warm=False)),
    }
    times: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(rounds):
        for name, (count, operation) in operations.items():
            start = time.thread_time()
            for _ in range(count):
                operation()
            times[name].append((time.thread_time() - start) / count)
    say(f"attest: {rounds} rounds of {_QUOTES} quotes and {_APPRAISALS} appraisals")
    return [Measured(name, count, tuple(times[name])) for name, (count, _) in operations.items()]


def _floor() -> Callable[[], None]:
    """The signature alone, by the library: what no verifier on it is below."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, scheme = key.public_key(), ec.ECDSA(hashes.SHA256())
    signature = key.sign(b"message", scheme)
    return lambda: public.verify(signature, b"message", scheme)


def _quoting(key: PrivateKey) -> Callable[[], None]:
    public = parse_public(public_area(key))
    message = quote_message(bytes(32), bytes(32), (selection(SHA256, QUOTED),))
    signature = sign(key, message)

    def operation() -> None:
        parse_quote(message)
        verify_signature(public, parse_signature(signature), message)

    return operation


def _appraising(of: Host, *, warm: bool) -> Callable[[], None]:
    evidence = of.evidence(_NONCE)
    trust = Trust(roots=[parse_certificate(of.maker.root())], enrolled_ak=of.ak_name())
    learnt = learn(appraise(evidence, trust, _NONCE, NOW, VerifierMemory()), "bench")
    trust = replace(trust, reference=read_reference([json.dumps(learnt).encode()]))
    kept = VerifierMemory()

    def operation() -> None:
        result = appraise(evidence, trust, _NONCE, NOW, kept if warm else VerifierMemory())
        if result.tier is not Tier.AFFIRMING or len(result.entries) != FILES + 1:
            raise HostwardError("the appraisal that is measured does not affirm: what is measured is something else")

    operation()
    return operation


def as_json(measured: list[Measured]) -> list[dict[str, object]]:
    """For the result file."""
    return [
        {
            "operation": each.name,
            "count": each.count,
            "min_us": round(min(each.times_s) * 1e6, 2),
            "median_us": round(median(each.times_s) * 1e6, 2),
            "rounds_us": [round(value * 1e6, 2) for value in each.times_s],
        }
        for each in measured
    ]


def table(measured: list[Measured]) -> list[str]:
    """Minimum and median, as rates for quotes and times for appraisals, and what was aimed at."""
    lines = ["attest, a core, software keys             best      median      target     of"]
    for each in measured:
        least, middle = min(each.times_s), median(each.times_s)
        if each.name.startswith("its"):
            figures, verdict = f"{1 / least:10,.0f}/s{1 / middle:10,.0f}/s            ", ""
        elif each.name.startswith("quote"):
            verdict = "met" if 1 / middle >= QUOTES_TARGET else "MISSED"
            figures = f"{1 / least:10,.0f}/s{1 / middle:10,.0f}/s{QUOTES_TARGET:10,.0f}/s"
        elif each.name.endswith("warm"):
            verdict = "met" if middle * 1e3 <= APPRAISAL_TARGET_MS else "MISSED"
            figures = f"{least * 1e3:9.2f} ms{middle * 1e3:9.2f} ms{APPRAISAL_TARGET_MS:9.2f} ms"
        else:
            verdict = ""
            figures = f"{least * 1e3:9.2f} ms{middle * 1e3:9.2f} ms            "
        lines.append(f"  {each.name:32}{figures}{each.count:7}  {verdict}".rstrip())
    return lines
