"""An agent's attestation from its configuration: the TPM is opened and the monitor measured before anything is attached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostward.agent.attestation import Attesting
from hostward.agent.identity import HostIdentity
from hostward.agent.measured import Monitor, files
from hostward.agent.proof import Proof
from hostward.agent.proving import Proving
from hostward.cli.configuration import AgentConfig
from hostward.datapath.attached import AttachedReader
from hostward.errors import UsageError

# Below the agent's state: the attestation key's blobs and the monitor's log.
TPM_FOLDER = "tpm"


def measured_first(config: AgentConfig, identity: HostIdentity) -> Callable[[Callable[[], int]], Proving] | None:
    """Measure the monitor now; what comes back makes the rest, given what tells the enforced revision.

    None where the host does not attest. Raises TpmError: a host that was told to attest does not start without its TPM.
    """
    settings = config.attestation
    if settings is None:
        return None
    from hostward.attester import Attester, AttesterSettings
    from hostward.attester.watch import FileWatch
    from hostward.sentinel.client import SentinelClient

    if not settings.boot_log.exists():
        raise UsageError("there is no boot log", subject=str(settings.boot_log), hint="set attestation.boot_log")
    attester = Attester(
        AttesterSettings(
            settings.tcti, config.state / TPM_FOLDER, settings.boot_log, settings.ima_log, settings.monitor_pcr
        )
    )
    configuration = (config.datapath, config.hook, config.tcp_pickup, config.uplink)
    watch = FileWatch(files())  # before it is measured: what is written in between is told of
    monitor = Monitor(configuration)
    monitor.measure(attester.measure)

    def proving(revision: Callable[[], int]) -> Proving:
        reader = AttachedReader(Path(config.pins), by_number=settings.by_number)
        sentinel = None if settings.sentinel is None else SentinelClient(settings.sentinel)
        proof = Proof(attester, reader.read, revision, sentinel, settings.boot_id)

        def measure_again(changed: object) -> bool:
            monitor.changed(changed)
            return monitor.measure(proof.measure_now)

        attesting = Attesting(config.controller, config.state, identity, proof)
        return Proving(attesting, proof, measure_again, watch)

    return proving
