"""Software TPMs for lab hosts, and a boot that is played to them.

**Such evidence is software-measured and proves nothing of the machine.** A lab host has no firmware and no IMA of its own,
so this module writes both logs and extends the TPM accordingly; whoever may write here may write anything. The TPM's
sockets are within the host's reach, so that root in the host may also reset it. Protocols, keys, quotes and appraisal are
the true ones.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostward.attest import ima
from hostward.attest.algorithms import SHA256, Hash
from hostward.attest.eventlog import EventType
from hostward.attest.pem import certificates_in
from hostward.attester.host_logs import event
from hostward.attester.tpm import Tpm
from hostward.errors import HostwardError
from hostward.lab.processes import Started, launch, run

BOOT_LOG, IMA_LOG = "boot-log", "ima"  # in the folder of a boot
_STATE, _MADE, _PID = "state", "tpm2-00.permall", "swtpm.pid"
_ROOT, _ISSUER = "swtpm-localca-rootca-cert.pem", "issuercert.pem"
_CHAIN_INDEX = 0x01C00100
_START_LIMIT_S = 20.0
_PORTS = range(10_000, 32_000)  # below those that the kernel gives to whoever connects
_ATTEMPTS = 10
_BANKS: tuple[Hash, ...] = (SHA256,)
_SEPARATOR = b"\0\0\0\0"


def make_tpm(folder: Path, ca_folder: Path) -> None:
    """Manufacture a TPM in ``folder``: an RSA endorsement key certified by the CA in ``ca_folder``, a SHA-256 bank.

    The CA is made with its first TPM; its intermediate certificate lies in the TPM too, as makers do it. Raises
    HostwardError.
    """
    folder, ca_folder = folder.absolute(), ca_folder.absolute()
    for path in (folder / _STATE, ca_folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    localca, options, setup = (folder / name for name in ("localca.conf", "localca.options", "setup.conf"))
    localca.write_text(
        f"statedir = {ca_folder}\nsigningkey = {ca_folder}/signkey.pem\n"
        f"issuercert = {ca_folder}/{_ISSUER}\ncertserial = {ca_folder}/certserial\n"
    )
    options.write_text("--platform-manufacturer Hostward\n--platform-version 1\n--platform-model Lab\n")
    setup.write_text(
        "create_certs_tool = /usr/bin/swtpm_localca\n"
        f"create_certs_tool_config = {localca}\ncreate_certs_tool_options = {options}\n"
    )
    made = ("--tpm2", "--tpm-state", f"dir://{folder / _STATE}", "--config", str(setup), "--overwrite")
    keys = ("--createek", "--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256", "--vmid", folder.name)
    run(["swtpm_setup", *made, *keys, "--logfile", str(folder / "setup.log")], limit_s=120)
    started, port = start_anywhere(folder)
    try:
        tpm = Tpm(tcti_of(port))
        try:
            tpm.define_nv(_CHAIN_INDEX, b"".join(certificates_in((ca_folder / _ISSUER).read_bytes())))
        finally:
            tpm.close()
    finally:
        started.end()


def root_certificate(ca_folder: Path) -> bytes:
    """The root of a lab's CA in PEM: what a verifier has to trust."""
    return (ca_folder / _ROOT).read_bytes()


def start_tpm(folder: Path, port: int, network: str | None) -> Started:
    """Start a TPM (TPM2_Startup with its PCRs at their first values) on 127.0.0.1, this port and the next.

    It listens in the network namespace of this path, in ours if it is None, and is in no other namespace of the host. It
    listens when this returns. Raises HostwardError.
    """
    folder = folder.absolute()  # relative ones are looked up from wherever swtpm goes
    if not (folder / _STATE / _MADE).exists():
        raise HostwardError("no software TPM was made here", subject=str(folder))
    log, pid = folder / "swtpm.log", folder / _PID
    pid.unlink(missing_ok=True)
    listen = ("--server", f"type=tcp,port={port},bindaddr=127.0.0.1", "--ctrl", f"type=tcp,port={port + 1}")
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / _STATE}", *listen]
    enter = [] if network is None else ["nsenter", f"--net={network}"]
    started = launch([*enter, *command, "--flags", "not-need-init,startup-clear", "--pid", f"file={pid}"], log)
    deadline_s = time.monotonic() + _START_LIMIT_S
    while not (pid.exists() and pid.read_text().strip()):  # written when both sockets listen
        if not started.alive or time.monotonic() > deadline_s:
            started.end()
            words = log.read_text(errors="replace").strip().splitlines()
            raise HostwardError("the software TPM does not start", subject=str(folder), hint=words[-1] if words else "")
        time.sleep(0.005)  # swtpm tells nobody that it listens
    return started


def tcti_of(port: int) -> str:
    """How the TSS reaches a TPM that ``start_tpm`` started."""
    return f"swtpm:host=127.0.0.1,port={port}"


def start_anywhere(folder: Path) -> tuple[Started, int]:
    """Start a TPM in our own network, on ports that happen to be free; which it is. Raises HostwardError."""
    for left in reversed(range(_ATTEMPTS)):
        port = _PORTS.start + 2 * secrets.randbelow(len(_PORTS) // 2)
        try:
            return start_tpm(folder, port, None), port
        except HostwardError:
            if not left:
                raise
    raise AssertionError  # the last attempt returns or raises


@dataclass(frozen=True, slots=True)
class SoftwareBoot:
    """The logs of a boot that was played."""

    boot_log: Path
    ima_log: Path


def software_boot(tcti: str, folder: Path, files: Sequence[Path]) -> SoftwareBoot:
    """Play a boot to a TPM that was just started: a log of firmware and kernel, and an IMA list of these files.

    What comes out is well-formed, and software-measured: it proves nothing of the machine. There is no Secure Boot in
    it, so it is appraised with ``without={"secure-boot"}``. Raises HostwardError, also if the TPM was booted before.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    boot = SoftwareBoot(folder / BOOT_LOG, folder / IMA_LOG)
    kernel = os.uname()
    tpm = Tpm(tcti)
    try:
        if any(tpm.read_pcr(SHA256, 0)):
            raise HostwardError("the software TPM was booted already", subject=tcti, hint="start it anew")
        log = _spec_id()
        log += _measure(tpm, 0, EventType.EV_S_CRTM_VERSION, "hostward lab, software-measured\0".encode("utf-16-le"))
        for pcr in range(8):
            log += _measure(tpm, pcr, EventType.EV_SEPARATOR, _SEPARATOR)
        log += _measure(tpm, 9, EventType.EV_IPL, f"{kernel.sysname} {kernel.release} {kernel.version}".encode())
        boot.boot_log.write_bytes(log)
        aggregate = SHA256.digest(b"".join(tpm.read_pcr(SHA256, pcr) for pcr in range(10)))
        boot.ima_log.write_bytes(_ima_entry(tpm, "boot_aggregate", aggregate))
        _measure_files(tpm, boot, files)
    finally:
        tpm.close()
    return boot


def software_measure(tcti: str, boot: SoftwareBoot, files: Sequence[Path]) -> None:
    """Append files to a boot's IMA list, as the kernel would if they were opened now. The TPM must be free."""
    tpm = Tpm(tcti)
    try:
        _measure_files(tpm, boot, files)
    finally:
        tpm.close()


def _measure_files(tpm: Tpm, boot: SoftwareBoot, files: Sequence[Path]) -> None:
    with boot.ima_log.open("ab") as log:
        for path in files:
            log.write(_ima_entry(tpm, str(path), SHA256.digest(path.read_bytes())))


def _measure(tpm: Tpm, pcr: int, kind: EventType, data: bytes) -> bytes:
    tpm.extend(pcr, {bank: bank.digest(data) for bank in _BANKS})
    return event(pcr, kind, data, _BANKS)


def _spec_id() -> bytes:
    """TCG_EfiSpecIDEvent in a TCG_PCR_EVENT: what every crypto-agile log begins with (profile, 10.4.5.1)."""
    data = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(_BANKS))
    data += b"".join(struct.pack("<HH", bank.algorithm, bank.size) for bank in _BANKS) + b"\0"
    return struct.pack("<II20sI", 0, EventType.EV_NO_ACTION, bytes(20), len(data)) + data


def _ima_entry(tpm: Tpm, path: str, digest: bytes) -> bytes:
    """An entry of the template ima-ng, extended into the TPM (Documentation/security/IMA-templates.rst)."""
    fields = (b"sha256:\0" + digest, path.encode() + b"\0")
    body = b"".join(struct.pack("<I", len(each)) + each for each in fields)
    tpm.extend(ima.PCR, {bank: bank.digest(body) for bank in _BANKS})
    listed = hashlib.sha1(body).digest()  # noqa: S324 - what the list has, whatever the banks are
    name = b"ima-ng"
    head = struct.pack("<I20sI", ima.PCR, listed, len(name)) + name
    return head + struct.pack("<I", len(body)) + body
