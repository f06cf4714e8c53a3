"""`hostward attest`: evidence appraised offline. Files are read here; what they mean is decided in `hostward.attest`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hostward.cli import attestation
from hostward.cli.output import Format, message, show_one
from hostward.errors import EvidenceError, UsageError

if TYPE_CHECKING:
    from hostward.attest.appraisal import Appraisal

app = typer.Typer(no_args_is_help=True, help="Evidence of hosts: what they booted and run.")
app.command("status")(attestation.status)
app.command("explain")(attestation.explain)
app.command("reload")(attestation.reload)
app.command("release")(attestation.release)

Folder = Annotated[Path, typer.Argument(help="A folder of evidence; see docs/reference/evidence.md.")]
Nonce = Annotated[str, typer.Option(help="What the verifier asked for, in hexadecimal.")]
TrustFolder = Annotated[Path | None, typer.Option("--trust", help="What is trusted, in place of DIR/verifier.")]
Without = Annotated[
    list[str] | None,
    typer.Option(help="Only warn if this is missing: endorsement, enrolment, reference, secure-boot, ima."),
]
At = Annotated[str, typer.Option(help="Judge as of this time, RFC 3339; now if left out.")]


@app.command()
def eventlog(file: Annotated[Path, typer.Argument(help="A TCG event log, binary.")]) -> None:
    """Replay a boot log into PCR values, and show its events, as JSON."""
    from hostward.attest.eventlog import parse_event_log, replay
    from hostward.attest.eventlog.describe import describe_event
    from hostward.attest.eventlog.log import MOST_BYTES
    from hostward.attest.eventlog.replay import replayable
    from hostward.controller.attestation.trust_files import read_bounded

    try:
        log = parse_event_log(read_bounded(file, MOST_BYTES))
        banks = replayable(log)
        if not banks:
            raise EvidenceError("no bank of the log can be replayed: its hashes are unknown, or digests are missing")
        values = {bank.name: replay(log, bank) for bank in banks}
    except EvidenceError as error:
        error.subject = str(file)
        raise
    shown = {name: {str(pcr): value.hex() for pcr, value in sorted(of.items())} for name, of in values.items()}
    events = [describe_event(event) for event in log.events]
    print(json.dumps({"format": log.format.value, "banks": shown, "events": events}, indent=1))
    message(f"{file}: {len(events)} events, banks {', '.join(shown)}")


@app.command()
def verify(
    folder: Folder,
    nonce: Nonce,
    trust: TrustFolder = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Only warn if this is missing: endorsement, enrolment, reference, secure-boot, ima."),
    ] = None,
    at: At = "",
    ear: Annotated[
        Path | None, typer.Option(help="Print the result as a JWT (EAR), signed by this private key.")
    ] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")] = Format.TABLE,
) -> None:
    """Appraise stored evidence offline: exit 0 if nothing speaks against the host, else 1 with the rule and the reason."""
    from hostward.attest.findings import Tier, printable

    result = _appraise(folder, nonce, trust, frozenset(without or ()), at)
    answer = _shown(result)
    if ear is not None:
        print(_signed(result, nonce, at, ear))
    elif output in (Format.JSON, Format.YAML):
        show_one(answer, output)
    else:
        for finding in sorted(result.findings, key=lambda each: -each.tier):
            print(f"{_MARKS[finding.tier.name]}  {finding.rule.label}: {printable(finding.what)}")
            if finding.tier is not Tier.AFFIRMING:
                for title, text in (
                    ("where", finding.where),
                    ("expected", finding.expected),
                    ("why", finding.rule.why),
                ):
                    if text:
                        print(f"      {title}: {printable(text)}")
        print(f"verdict: {answer['verdict']}")
    if result.tier is Tier.CONTRAINDICATED:
        raise typer.Exit(1)


@app.command()
def learn(
    target: Annotated[str, typer.Argument(help="A host of the controller, or a folder of evidence with --nonce.")],
    nonce: Annotated[str, typer.Option(help="Of stored evidence: what the verifier asked for, in hexadecimal.")] = "",
    label: Annotated[str, typer.Option(help="What these values are called in explanations.")] = "",
    trust: TrustFolder = None,
    without: Without = None,
    at: At = "",
    server: attestation.Server = "",
) -> None:
    """Print reference values of a good host, to be read, signed and put where hosts are judged by them."""
    from hostward.attest.findings import Rule, Tier, printable
    from hostward.attest.learning import learn as learn_from

    if not nonce:
        attestation.learn_from_host(target, server)
        return
    folder, label = Path(target), label or target
    result = _appraise(folder, nonce, trust, frozenset(without or ()), at)
    # That its state is not known yet is what learning is for; everything else has to hold.
    unknown = {Rule.REFERENCE, Rule.BOOT_COMPONENT, Rule.IMA_FILE}
    against = [each for each in result.findings if each.tier is Tier.CONTRAINDICATED and each.rule not in unknown]
    for finding in against:
        message(f"{finding.rule.label}: {printable(finding.what)}")
    if against:
        raise EvidenceError("nothing is learnt from a host that is not good", subject=str(folder))
    print(json.dumps(learn_from(result, label), indent=1))


_EAR_LIFE = timedelta(minutes=5)
_MARKS = {"AFFIRMING": "good", "WARNING": "WARN", "CONTRAINDICATED": "FAIL"}


def _appraise(folder: Path, nonce: str, trust: Path | None, without: frozenset[str], at: str) -> Appraisal:
    from hostward.attest.appraisal import appraise
    from hostward.attest.findings import WAIVABLE
    from hostward.attest.memory import VerifierMemory
    from hostward.cli.evidence_files import read_evidence, read_trust

    unknown = without.difference(WAIVABLE)
    if unknown:
        raise UsageError(f"cannot do without {', '.join(sorted(unknown))}", hint=f"only without {', '.join(WAIVABLE)}")
    evidence = read_evidence(folder)
    known = read_trust(trust or folder / "verifier", without)
    return appraise(evidence, known, _nonce(nonce), _time(at), VerifierMemory())


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise UsageError("the nonce is not hexadecimal", subject=text[:80]) from error


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text) if text else datetime.now(UTC)
    except ValueError as error:
        raise UsageError("no time", subject=text, hint="write it like 2026-11-28T12:00:00Z") from error
    if time.tzinfo is None:
        raise UsageError("the time has no zone", subject=text, hint="write it like 2026-11-28T12:00:00Z")
    return time


def _signed(result: Appraisal, nonce: str, at: str, key: Path) -> str:
    from importlib.metadata import version

    from hostward.attest.ear import ear_claims, sign_ear
    from hostward.controller.attestation.trust_files import read_bounded

    claims = ear_claims(result, _nonce(nonce), _time(at), _EAR_LIFE, f"hostward {version('hostward')}", result.policy)
    return sign_ear(claims, read_bounded(key, 64 << 10))


def _shown(result: Appraisal) -> dict[str, Any]:
    from hostward.cli.evidence_files import shown_state

    boot, quote = result.boot, result.quote
    return {
        "verdict": result.tier.name.lower(),
        "host": result.endorsement.ek if result.endorsement else "",
        "endorsed_by": result.endorsement.by if result.endorsement else "",
        "quoted": [str(each) for each in quote.selection] if quote else [],
        "pcrs": {str(pcr): value.hex() for pcr, value in sorted(boot.values.items())} if boot else {},
        "ima_entries": len(result.entries),
        "monitor": {name: digest.hex() for name, digest in sorted(result.monitor.items())},
        "findings": [finding.shown() for finding in result.findings],
        "last": shown_state(result.epoch, result.checkpoint),
    }
