"""The programs on Debian 12's own kernel, in a QEMU guest under TCG: its verifier has to take them."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hostward.datapath.kernel import OBJECT

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t bpf bpf /sys/fs/bpf
echo "kernel $(/bin/busybox uname -r)"
/bpftool prog loadall /endpoint.bpf.o /sys/fs/bpf/t 2>&1 && echo LOADED
/bpftool prog show
/bin/busybox poweroff -f
"""


def initramfs(folder: Path) -> Path:
    """A root of busybox, bpftool with its libraries, and the object."""
    root = folder / "root"
    for name in ("bin", "proc", "sys"):
        (root / name).mkdir(parents=True)
    bpftool = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert bpftool is not None, "bpftool is missing: run `make setup`"
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    shutil.copy(bpftool, root / "bpftool")
    shutil.copy(OBJECT, root / "endpoint.bpf.o")
    linked = subprocess.run(["ldd", bpftool], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), capture_output=True, check=True
    )
    image = folder / "initramfs.gz"
    image.write_bytes(gzip.compress(archive.stdout, 1))
    return image


@pytest.mark.vm
def test_debians_kernel_takes_the_programs(tmp_path: Path) -> None:
    kernels = sorted(Path("/boot").glob("vmlinuz-6.1.*-cloud-amd64"))
    assert kernels, "linux-image-cloud-amd64 is missing: run `make setup`"
    options = [
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "1024",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]
    guest = subprocess.run(
        [
            "qemu-system-x86_64",
            *options,
            *("-serial", "stdio", "-kernel", str(kernels[-1]), "-initrd", str(initramfs(tmp_path))),
            *("-append", "console=ttyS0 quiet panic=-1"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "kernel 6.1." in guest.stdout
    assert "LOADED" in guest.stdout, guest.stdout[-4_000:]
    for program in ("hw_egress", "hw_ingress", "hw_closed", "hw_flush"):
        assert f"name {program} " in guest.stdout
