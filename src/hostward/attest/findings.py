"""What an appraisal finds: each finding is of a named rule, with what was seen, what was expected and why it matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

_MOST_SHOWN = 20  # findings of a rule; a host that runs another system has thousands


class Tier(IntEnum):
    """How a finding weighs: numbers are the tiers of attestation results (AR4SI)."""

    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96


class Aspect(Enum):
    """Which claim of the trust vector (draft-ietf-rats-ar4si) a rule is about."""

    IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILES = "file-system"
    HARDWARE = "hardware"


class Rule(Enum):
    """Every rule: its name, its aspect, and why it matters. docs/reference/evidence.md says the same at length."""

    EK_ENDORSED = ("ek.endorsed", Aspect.HARDWARE, "without a maker's word any program can play a TPM")
    EK_ATTRIBUTES = ("ek.attributes", Aspect.HARDWARE, "a key with other attributes need not lie in a TPM")
    AK_ATTRIBUTES = ("ak.attributes", Aspect.IDENTITY, "a key that is not restricted signs what no TPM measured")
    AK_ENROLLED = ("ak.enrolled", Aspect.IDENTITY, "only activation proves that this key lies in this TPM")
    AK_IMPOSTOR = ("ak.impostor", Aspect.IDENTITY, "a host that changes its key is another host until it enrols")
    QUOTE_GENUINE = ("quote.genuine", Aspect.IDENTITY, "nothing else is proven without the signature")
    QUOTE_FRESH = ("quote.fresh", Aspect.IDENTITY, "a quote over another nonce or other keys is replayed or relayed")
    QUOTE_BOUND = ("quote.bound", Aspect.IDENTITY, "a quote over the nonce alone can be relayed by anyone")
    QUOTE_SELECTION = (
        "quote.selection",
        Aspect.CONFIGURATION,
        "what is logged of a PCR that is not quoted is unproven",
    )
    QUOTE_EPOCH = ("quote.epoch", Aspect.IDENTITY, "old evidence tells of a state that is gone")
    LOG_READABLE = ("log.readable", Aspect.CONFIGURATION, "what cannot be read cannot be judged")
    LOG_EXPLAINS = ("log.explains-quote", Aspect.CONFIGURATION, "a log that does not give the quoted PCRs is not true")
    BOOT_SEPARATORS = (
        "boot.separators",
        Aspect.CONFIGURATION,
        "separators end what firmware may measure; without one a PCR can be filled afterwards",
    )
    BOOT_ERROR = ("boot.error-separator", Aspect.CONFIGURATION, "firmware says that measuring failed")
    BOOT_DATA = (
        "boot.data-genuine",
        Aspect.CONFIGURATION,
        "the TPM vouches for the digest, so data of another digest is made up",
    )
    BOOT_SECURE = (
        "boot.secure-boot",
        Aspect.CONFIGURATION,
        "without Secure Boot the firmware starts whatever lies on the disk",
    )
    BOOT_SURPRISE = ("boot.surprising-event", Aspect.CONFIGURATION, "firmware of a sound machine does not measure this")
    BOOT_UNKNOWN = ("boot.unknown-event", Aspect.CONFIGURATION, "it is in the PCR, and no rule knows what it means")
    BOOT_COMPONENT = (
        "boot.component",
        Aspect.EXECUTABLES,
        "this code or its configuration is none that the operator knows",
    )
    BOOT_SETTING = (
        "boot.setting",
        Aspect.CONFIGURATION,
        "settings and disks may differ from host to host; look whether this should",
    )
    BOOT_SUPERSEDED = ("boot.superseded", Aspect.EXECUTABLES, "it was replaced, and its grace will end")
    MONITOR_COMPONENT = (
        "monitor.component",
        Aspect.EXECUTABLES,
        "what decides on packets here is none that the operator knows",
    )
    REFERENCE = (
        "reference.present",
        Aspect.EXECUTABLES,
        "a genuine quote of unknown software proves nothing about the software",
    )
    IMA_AGGREGATE = ("ima.boot-aggregate", Aspect.FILES, "the list begins with the boot that it belongs to")
    IMA_FILE = ("ima.file", Aspect.FILES, "a file was opened or run that the operator does not know")
    IMA_TOLERATED = ("ima.tolerated", Aspect.FILES, "the reference values let this name pass whatever it holds")
    IMA_SUPERSEDED = ("ima.superseded", Aspect.FILES, "it was replaced, and its grace will end")
    IMA_VIOLATION = ("ima.violation", Aspect.FILES, "a file was written while it was read, so what was read is unknown")
    IMA_RESTART = ("ima.kexec", Aspect.FILES, "a kernel was started that the firmware did not measure")

    def __init__(self, label: str, aspect: Aspect, why: str) -> None:
        self.label = label
        self.aspect = aspect
        self.why = why


# Failures of these may be made warnings by an operator who does without, by name (`--without`).
WAIVABLE = {
    "endorsement": frozenset({Rule.EK_ENDORSED, Rule.EK_ATTRIBUTES}),
    "enrolment": frozenset({Rule.AK_ENROLLED}),
    "reference": frozenset({Rule.REFERENCE}),
    "secure-boot": frozenset({Rule.BOOT_SECURE}),
    "ima": frozenset({Rule.IMA_AGGREGATE}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an appraisal found."""

    rule: Rule
    tier: Tier
    what: str
    where: str = ""  # which event, entry or file
    expected: str = ""

    def shown(self) -> dict[str, str]:
        """As JSON has it."""
        return {
            "rule": self.rule.label,
            "tier": self.tier.name.lower(),
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "why": self.rule.why,
        }


def failed(rule: Rule, what: str, *, where: str = "", expected: str = "") -> Finding:
    """A finding that speaks against the host."""
    return Finding(rule, Tier.CONTRAINDICATED, what, where, expected)


def warned(rule: Rule, what: str, *, where: str = "", expected: str = "") -> Finding:
    """A finding that somebody should look at."""
    return Finding(rule, Tier.WARNING, what, where, expected)


def passed(rule: Rule, what: str) -> Finding:
    """A finding that speaks for the host."""
    return Finding(rule, Tier.AFFIRMING, what)


def bounded(findings: Sequence[Finding]) -> list[Finding]:
    """At most so many of each rule and tier, the first; what is left out is counted, at its tier."""
    kept: list[Finding] = []
    counts: dict[tuple[Rule, Tier], int] = {}
    for finding in findings:
        key = finding.rule, finding.tier
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= _MOST_SHOWN:
            kept.append(finding)
    more = [(key, count - _MOST_SHOWN) for key, count in counts.items() if count > _MOST_SHOWN]
    return kept + [Finding(rule, tier, f"{count} more") for (rule, tier), count in more]


def printable(text: str) -> str:
    """For a terminal: names of files and makers are a host's words, and may hold what a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
