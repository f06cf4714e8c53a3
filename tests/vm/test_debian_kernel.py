"""The programs on Debian 12's own kernel, in a QEMU guest under TCG: its verifier has to take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.datapath.kernel import OBJECT
from tests.vm.guest import boot
from tests.vm.initramfs import Initramfs, find_tool

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t bpf bpf /sys/fs/bpf
echo "kernel $(/bin/busybox uname -r)"
{bpftool} prog loadall /endpoint.bpf.o /sys/fs/bpf/t 2>&1 && echo LOADED
{bpftool} prog show
/bin/busybox poweroff -f
"""


def make_root(folder: Path) -> Path:
    """A root of busybox, bpftool with its libraries, and the object."""
    root = Initramfs(folder)
    for name in ("busybox", "bpftool"):
        root.take(find_tool(name))
    root.place("endpoint.bpf.o", OBJECT.read_bytes())
    root.place("init", _INIT.format(bpftool=find_tool("bpftool")), 0o755)
    return root.pack()


@pytest.mark.vm
def test_debians_kernel_takes_the_programs(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    boot(make_root(tmp_path), console, tmp_path / "unused", limit_s=240)
    said = console.read_text(errors="replace")
    assert "kernel 6.1." in said
    assert "LOADED" in said, said[-4_000:]
    for program in ("hw_egress", "hw_ingress", "hw_closed", "hw_flush"):
        assert f"name {program} " in said
