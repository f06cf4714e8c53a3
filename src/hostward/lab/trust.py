"""The trusted parts of a lab whose hosts attest: TPMs, sentinels, gates, and what the controller believes.

A host's TPM and gate run outside of it; what it is measured by, it does itself: evidence is `software-measured`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.agent.measured import core_library, objects
from hostward.controller.grant_key import open_grant_key, public_hex
from hostward.datapath.kernel import default_hook
from hostward.errors import HostwardError
from hostward.gate.identity import gate_fingerprint
from hostward.lab import network
from hostward.lab.controller import Operator
from hostward.lab.host import enter_host, hostward_command, network_of
from hostward.lab.processes import Started, child_of, launch, run
from hostward.lab.state import LabState
from hostward.lab.topology import Topology
from hostward.lab.tpm import BOOT_LOG, IMA_LOG, make_tpm, root_certificate, start_tpm, tcti_of

GATE_PORT = "uplink"
# Everybody's own namespace, so everybody's own ports.
TPM_PORT = 2_321
_GATE_CHANNEL, _GATE_PULSES = 7_445, 7_446
_LEARN_LIMIT_S = 60.0
_INSIDE = "/var/lib/hostward"
# A lab's figures are read by people who wait.
PULSE_S = 2.5
RESTART_GRACE_S = 30.0  # the sentinel's own default
_EVIDENCE_S, GRACE_S = 5.0, 40.0


class LabTrust:
    """For one lab."""

    def __init__(self, topology: Topology, state: LabState) -> None:
        self._topology, self._state = topology, state

    # -- before the controller

    def prepare(self) -> str:
        """Start TPMs, boots, gates and sentinels; the controller's settings for them, in TOML."""
        state = self._state
        key = public_hex(open_grant_key(state.folder / "controller"))
        gates = []
        for index, host in enumerate(self._topology.hosts):
            self._give_own_objects(host)
            self.boot(host)
            gates.append(self._start_gate(index, host, key))
            self.start_sentinel(host)
        trust = self._folder
        for name in ("roots", "reference", "reference-keys"):
            (trust / name).mkdir(parents=True, exist_ok=True)
        (trust / "roots" / "lab.pem").write_bytes(root_certificate(state.folder / "tpm-ca"))
        mode = self._topology.attestation.value
        # Lab hosts have no firmware, and their reference values are learnt from the first of them.
        return (
            f'[attestation]\ntrust = "{trust}"\nmode = "{mode}"\nwithout = ["secure-boot", "reference"]\n'
            f"evidence_s = {_EVIDENCE_S}\ngrace_s = {GRACE_S}\npulse_s = {PULSE_S}\ncertificate_life_s = 60\n"
            'measured = "software-measured"\n' + "".join(gates)
        )

    def _give_own_objects(self, host: str) -> None:
        """Put a copy of the eBPF objects in the place of the installed ones, for this host alone: its to tamper with."""
        originals = next(iter(objects().values())).parent
        copy = self.objects(host)
        shutil.copytree(originals, copy)
        holder = self._state.holders[host]
        enter = ["nsenter", f"--target={holder.pid}", "--mount", "--root", "--"]
        # /run is the host's own there, and the lab's folder lies in ours.
        run([*enter, "mount", "--bind", "/run/bpf-objects", str(originals)])

    def objects(self, host: str) -> Path:
        """Where a host's own eBPF objects lie."""
        return self._state.host_folder(host) / "run" / "bpf-objects"

    def boot(self, host: str) -> None:
        """Power a host's TPM on, the first time by manufacturing it, and play its boot to it."""
        state = self._state
        folder = self._tpm_folder(host)
        if not folder.exists():
            make_tpm(folder, state.folder / "tpm-ca")
        name = f"tpm-{host}"
        if name in state.others:
            state.others[name].end()
        holder = network_of(state.holders[host])
        state.others[name] = start_tpm(folder, TPM_PORT, holder)
        state.save()
        logs = state.host_folder(host) / "state" / "boot"
        logs.mkdir(mode=0o700, exist_ok=True)
        files = [Path(sys.executable).resolve(), core_library(), *objects().values()]
        play = [sys.executable, "-m", "hostward.lab.boot", tcti_of(TPM_PORT), str(logs), *map(str, files)]
        run([*network.enter(holder), *play])
        # A TPM that is started anew without its kernel gives itself away; this kernel's id is the machine's.
        (logs / "boot_id").write_text(str(uuid.uuid4()))

    def _start_gate(self, index: int, host: str, controller_key: str) -> str:
        state = self._state
        folder = state.folder / "gates" / host
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = network.gate_address(index)
        (folder / "gate.toml").write_text(
            f'name = "gate-{host}"\nlisten = "{address}:{_GATE_CHANNEL}"\npulses = "{address}:{_GATE_PULSES}"\n'
            f'controller_keys = ["{controller_key}"]\nstate = "{folder}/state"\n'
            f'pins = "{state.pins}/gate-{host}"\nhook = "{default_hook()}"\nmode = "{self._topology.attestation.value}"\n'
            f'[[ports]]\nname = "{GATE_PORT}"\nhost = "{network.GATE_HOST}"\nfabric = "{network.GATE_FABRIC}"\n'
        )
        fingerprint = gate_fingerprint(folder / "state")
        self.start_gate(host)
        return (
            f'[[attestation.gates]]\nname = "gate-{host}"\naddress = "{address}:{_GATE_CHANNEL}"\n'
            f'fingerprint = "{fingerprint}"\nports = {{{GATE_PORT} = "{host}"}}\n'
        )

    def start_gate(self, host: str) -> None:
        """Start a host's gate, in its namespace and outside of the host."""
        state = self._state
        command = hostward_command("gate", "--config", str(state.folder / "gates" / host / "gate.toml"))
        log = state.folder / "gates" / host / "gate.log"
        state.others[f"gate-{host}"] = launch([*network.enter(state.namespace("gate", host)), *command], log)
        state.save()

    def start_sentinel(self, host: str) -> Started:
        """Start a host's sentinel, as a process of the host."""
        state = self._state
        index = self._topology.hosts.index(host)
        folder = state.host_folder(host)
        (folder / "run" / "hostward-sentinel").mkdir(mode=0o700, exist_ok=True)
        (folder / "state" / "sentinel.toml").write_text(
            f'gate = "{network.gate_address(index)}:{_GATE_PULSES}"\nport = "{GATE_PORT}"\n'
            'socket = "/run/hostward-sentinel/sentinel.sock"\npins = "/sys/fs/bpf/hostward"\n'
            f"restart_grace_s = {RESTART_GRACE_S:g}\n"
            "by_number = true\n"  # a lab host has no CAP_SYS_ADMIN
        )
        command = hostward_command("sentinel", "--config", f"{_INSIDE}/sentinel.toml")
        started = child_of(launch([*enter_host(state.holders[host]), *command], folder / "sentinel.log"))
        state.others[f"sentinel-{host}"] = started
        state.save()
        return started

    def agent_settings(self) -> str:
        """What each agent's file says of attestation, in TOML: all alike, as each is in its own namespaces."""
        return (
            f'[attestation]\ntcti = "{tcti_of(TPM_PORT)}"\nboot_log = "{_INSIDE}/boot/{BOOT_LOG}"\n'
            f'ima_log = "{_INSIDE}/boot/{IMA_LOG}"\nboot_id = "{_INSIDE}/boot/boot_id"\n'
            'sentinel = "/run/hostward-sentinel/sentinel.sock"\nby_number = true\n'
        )

    # -- when hosts attest

    def learn(self, operator: Operator) -> None:
        """Make what the first host is the reference for all, signed; returns when every host was judged by it."""
        first = self._topology.hosts[0]
        document = operator.call("GET", f"/v1/attestation/{first}/reference")["document"]
        content = json.dumps(document, indent=1).encode()
        signer = Ed25519PrivateKey.generate()
        pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self._folder / "reference-keys" / "operator.pem").write_bytes(pem)
        (self._folder / "reference" / "lab.json").write_bytes(content)
        (self._folder / "reference" / "lab.json.sig").write_bytes(signer.sign(content))
        operator.call("POST", "/v1/attestation/reload")
        self.await_evidence(operator, lambda row: row["reference"] and row["evidence"] in ("good", "warning"))

    def await_evidence(
        self, operator: Operator, holds: Callable[[Mapping[str, Any]], object], limit_s: float = _LEARN_LIMIT_S
    ) -> None:
        """Return once something holds of every host's evidence. Raises HostwardError naming one of which it does not."""
        deadline_s = time.monotonic() + limit_s
        while True:
            rows = operator.call("GET", "/v1/attestation")
            waiting = [row for row in rows if not holds(row)]
            if not waiting:
                return
            if time.monotonic() > deadline_s:
                row = waiting[0]
                raise HostwardError(
                    f"its evidence is {row['evidence']}: {'; '.join(row['against']) or row['refused'] or 'none came'}",
                    subject=row["name"],
                )
            time.sleep(0.05)

    def await_proven(self, operator: Operator) -> None:
        """Return once every host was found good by evidence from after this call, and its gate is open.

        A sentinel whose agent is killed now holds to what is in force. Raises HostwardError naming one that is not.
        """
        now = datetime.now(UTC).isoformat()
        self.await_evidence(operator, lambda row: row["evidence"] in ("good", "warning") and row["appraised"] > now)
        self.await_gates(operator)

    def await_gates(self, operator: Operator, limit_s: float = _LEARN_LIMIT_S) -> None:
        """Return once every host has a network: its gate is open, or would be. Raises HostwardError naming a closed one."""
        deadline_s = time.monotonic() + limit_s
        while True:
            closed = [
                (row["name"], gate["why"])
                for row in operator.call("GET", "/v1/attestation")
                for gate in row["gates"]
                if not gate["open"]
            ]
            if not closed:
                return
            if time.monotonic() > deadline_s:
                raise HostwardError(f"its gate stays closed: {closed[0][1]}", subject=closed[0][0])
            time.sleep(0.05)

    @property
    def _folder(self) -> Path:
        return self._state.folder / "trust"

    def _tpm_folder(self, host: str) -> Path:
        return self._state.folder / "tpms" / host
