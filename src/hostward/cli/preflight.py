"""What this machine offers and lacks for Hostward; each finding says what to do."""

from __future__ import annotations

import os
import platform
import re
from importlib.util import find_spec
from pathlib import Path

from hostward.datapath.kernel import default_hook

_NET = Path("/sys/class/net")
_MOUNTS = Path("/proc/self/mountinfo")
_SECURITY = Path("/sys/kernel/security")
_UNPRIVILEGED_BPF = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
_NEEDED_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39, "CAP_PERFMON": 38}


def examine() -> list[dict[str, object]]:
    """Findings in the order of importance: name, state (good, missing, warning), detail and what to do."""
    bypasses = _bypasses()
    if not bypasses:
        bypasses.append(
            _finding("bypasses", "good", "no SR-IOV function, macvtap, DPDK device or vhost-user port found")
        )
    return [*_kernel(), *_bpf(), *_processes(), *_capabilities(), *bypasses]


def _finding(name: str, state: str, detail: str, todo: str = "") -> dict[str, object]:
    return {"name": name, "state": state, "detail": detail, "todo": todo}


def _kernel() -> list[dict[str, object]]:
    release = platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    good = version >= (6, 1)
    findings = [
        _finding(
            "kernel",
            "good" if good else "missing",
            release,
            "" if good else "Linux 6.1 or later; 5.15 may work, untested",
        )
    ]
    hook = default_hook()
    detail = "tcx links" if hook == "tcx" else "clsact filters (tcx needs Linux 6.6)"
    findings.append(_finding("hook", "good", detail))
    return findings


def _bpf() -> list[dict[str, object]]:
    btf = Path("/sys/kernel/btf/vmlinux").exists()
    mounted = Path("/sys/fs/bpf").is_mount()
    return [
        _finding(
            "btf", "good" if btf else "warning", "/sys/kernel/btf/vmlinux", "" if btf else "CONFIG_DEBUG_INFO_BTF"
        ),
        _finding(
            "bpffs",
            "good" if mounted else "missing",
            "/sys/fs/bpf",
            "" if mounted else "mount -t bpf bpf /sys/fs/bpf",
        ),
        *_attestation(),
    ]


def _attestation() -> list[dict[str, object]]:
    """What a host needs to attest (docs/howto/attest-hosts.md); it enforces without."""
    needed = (
        ("tpm", Path("/dev/tpmrm0"), "to attest it takes a TPM 2.0, and the kernel's resource manager"),
        (
            "boot log",
            _SECURITY / "tpm0" / "binary_bios_measurements",
            "to attest: UEFI firmware, and securityfs mounted",
        ),
        ("ima", _SECURITY / "ima" / "binary_runtime_measurements", "to attest: boot with ima_policy=tcb"),
    )
    found = [
        _finding(name, "good" if path.exists() else "warning", str(path), "" if path.exists() else todo)
        for name, path, todo in needed
    ]
    library = find_spec("tpm2_pytss") is not None
    todo = "" if library else "to attest: pip install 'hostward[tpm]'"
    found.append(_finding("tpm library", "good" if library else "warning", "tpm2-pytss", todo))
    return found


def _processes() -> list[dict[str, object]]:
    """What only some policies need."""
    mounted = any(line.split(" - ")[1].startswith("cgroup2 ") for line in _MOUNTS.read_text().splitlines())
    restricted = _UNPRIVILEGED_BPF.exists() and _UNPRIVILEGED_BPF.read_text().strip() != "0"
    return [
        _finding(
            "cgroup2",
            "good" if mounted else "warning",
            "mounted" if mounted else "not mounted",
            "" if mounted else "rules by process need it: mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
        _finding(
            "unprivileged bpf",
            "good" if restricted else "warning",
            "off" if restricted else "anybody may load programs",
            "" if restricted else "sysctl kernel.unprivileged_bpf_disabled=1",
        ),
    ]


def _capabilities() -> list[dict[str, object]]:
    text = Path("/proc/self/status").read_text()
    held = int(re.search(r"^CapEff:\s*([0-9a-f]+)", text, re.MULTILINE)[1], 16)  # type: ignore[index]
    missing = [name for name, bit in _NEEDED_CAPABILITIES.items() if not held >> bit & 1]
    return [
        _finding(
            "capabilities",
            "missing" if missing else "good",
            ", ".join(missing) or "all",
            "run as root, or grant them to the agent's unit" if missing else "",
        )
    ]


def _bypasses() -> list[dict[str, object]]:
    """Ports whose packets do not pass the host's kernel."""
    findings: list[dict[str, object]] = []
    for device in sorted(os.listdir(_NET)):
        functions = _NET / device / "device" / "sriov_numvfs"
        if functions.exists() and functions.read_text().strip() != "0":
            findings.append(
                _finding(
                    f"sr-iov {device}",
                    "warning",
                    "virtual functions are enabled",
                    "their traffic bypasses the datapath",
                )
            )
        if (_NET / device / "macvtap").exists():
            findings.append(_finding(f"macvtap {device}", "warning", "a macvtap", "give the VM a tap instead"))
    for driver in ("vfio-pci", "uio_pci_generic", "igb_uio"):
        bound = [p.name for p in Path(f"/sys/bus/pci/drivers/{driver}").glob("0000:*")]
        if bound:
            findings.append(
                _finding(f"dpdk {driver}", "warning", ", ".join(bound), "a device bound to it bypasses the datapath")
            )
    sockets = [path for path in ("/run/openvswitch", "/run/vhost-user") if any(Path(path).glob("vhost*"))]
    findings += [_finding("vhost-user", "warning", path, "its ports bypass the datapath") for path in sockets]
    return findings
