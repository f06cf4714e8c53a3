"""The programs on Debian 12's own kernel, in a QEMU guest under TCG: its verifier has to take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.datapath.kernel import OBJECT
from hostward.datapath.processes import OBJECT as PROCESS_OBJECT
from hostward.datapath.uplink import OBJECT as UPLINK_OBJECT
from hostward.gate.kernel import OBJECT as GATE_OBJECT
from tests.vm.guest import boot
from tests.vm.initramfs import Initramfs, find_tool

_PROGRAMS = {
    OBJECT: ("hw_egress", "hw_ingress", "hw_closed", "hw_flush"),
    PROCESS_OBJECT: ("hw_sendmsg4", "hw_post_bind4", "hw_listen", "hw_scan"),
    UPLINK_OBJECT: ("hw_arrivals", "hw_ceiling"),
    GATE_OBJECT: ("hw_gate_from", "hw_gate_to", "hw_gate_closed", "hw_gate_xdp_from", "hw_gate_xdp_to"),
}
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t bpf bpf /sys/fs/bpf
echo "kernel $(/bin/busybox uname -r)"
{loads}
{bpftool} prog show
/bin/busybox poweroff -f
"""
_LOAD = "{bpftool} prog loadall /{object} /sys/fs/bpf/{pins} 2>&1 && echo LOADED {object}"


def make_root(folder: Path) -> Path:
    """A root of busybox, bpftool with its libraries, and the objects."""
    root = Initramfs(folder)
    for name in ("busybox", "bpftool"):
        root.take(find_tool(name))
    tool = find_tool("bpftool")
    loads = []
    for made in _PROGRAMS:
        root.place(made.name, made.read_bytes())
        loads.append(_LOAD.format(bpftool=tool, object=made.name, pins=made.name.partition(".")[0]))
    root.place("init", _INIT.format(bpftool=tool, loads="\n".join(loads)), 0o755)
    return root.pack()


@pytest.mark.vm
def test_debians_kernel_takes_the_programs(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    boot(make_root(tmp_path), console, tmp_path / "unused", limit_s=240)
    said = console.read_text(errors="replace").replace("\r", "")
    assert "kernel 6.1." in said
    for made, programs in _PROGRAMS.items():
        assert f"LOADED {made.name}\n" in said, said[-4_000:]
        for program in programs:
            assert f"name {program} " in said
