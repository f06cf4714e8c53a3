"""Reference values from a good host: what it booted and runs becomes what is expected. Signing them is for the operator."""

from __future__ import annotations

from collections.abc import Mapping

from hostward.attest.algorithms import BY_NAME, STRONG
from hostward.attest.appraisal import Appraisal
from hostward.attest.components import Component
from hostward.attest.findings import Tier, printable
from hostward.attest.monitor import is_judged, read_monitor, reference_path
from hostward.attest.reference import FORMAT
from hostward.errors import EvidenceError


def learn(appraisal: Appraisal, label: str) -> Mapping[str, object]:
    """A document of reference values. Raises EvidenceError if the evidence does not prove what the logs say."""
    boot = appraisal.boot
    if boot is None:
        reasons = "; ".join(printable(each.what) for each in appraisal.findings if each.tier is Tier.CONTRAINDICATED)
        raise EvidenceError(
            f"nothing can be learnt: the quote does not prove the logs ({reasons})",
            hint="`hostward attest verify` explains each rule",
        )
    components = {
        part.value: [{"label": label, "digests": {boot.bank.name: [digest.hex() for digest in boot.digests(part)]}}]
        for part in boot.parts
        if part is not Component.MONITOR
    }
    files: dict[str, list[str]] = {}
    for measured in read_monitor(boot)[0]:
        path, value = reference_path(measured.name), f"sha256:{measured.digest.hex()}"
        if is_judged(measured.name) and value not in files.get(path, ()):
            files.setdefault(path, []).append(value)
    for entry in appraisal.entries:
        template = entry.template
        if entry.violation or template.path == "boot_aggregate":
            continue
        used = BY_NAME.get(template.algorithm)
        value = f"{template.algorithm}:{template.digest.hex()}"
        if used is None or used.algorithm not in STRONG or value in files.get(template.path, ()):
            continue
        files.setdefault(template.path, []).append(value)
    return {"format": FORMAT, "components": components, "files": dict(sorted(files.items()))}
