"""A datapath of another version: today's sources with other layouts of a flow and of its keys, compiled for the test."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "bpf"
_FLOW = re.compile(r"(struct hw_flow \{\n)(.*?)(\n\};)", re.DOTALL)


def compile_version(folder: Path, version: int) -> Path:
    """The object of ``version``: every member of ``struct hw_flow`` elsewhere, some as wide again, and one more."""
    copy = folder / "bpf"
    shutil.copytree(SOURCES, copy)
    header = copy / "abi.h"
    text = re.sub(r"(#define HW_ABI_VERSION) \d+", rf"\1 {version}", header.read_text())
    text = re.sub(r"_Static_assert\(sizeof\(struct hw_flow\).*\n", "", text)
    text, found = _FLOW.subn(_reordered, text)
    assert found == 1
    header.write_text(text)
    # Tags of SCTP lie over members that are elsewhere now; no SCTP is spoken here.
    sctp = copy / "sctp.h"
    sctp.write_text(re.sub(r"\t_Static_assert\(offsetof.*?;\n", "", sctp.read_text(), flags=re.DOTALL))
    return compile_object(copy, folder)


def compile_object(sources: Path, folder: Path) -> Path:
    """The object of a copy of the sources that a test has changed."""
    made = folder / "endpoint.bpf.o"
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I/usr/include/x86_64-linux-gnu"]
    subprocess.run(["clang", *flags, "-c", str(sources / "endpoint.bpf.c"), "-o", str(made)], check=True)
    return made


def _reordered(found: re.Match[str]) -> str:
    body = re.sub(r"/\*.*?\*/", "", found[2], flags=re.DOTALL)
    members = [line.strip() for line in body.splitlines() if line.strip()]
    # What is swapped by packets as a whole stays aligned: the widest come first.
    wide = [line for line in members if line.startswith(("__u64", "struct"))]
    rest = [line for line in members if line not in wide]
    rest = [line.replace("__u8 verdict", "__u32 verdict") for line in reversed(rest)]
    return found[1] + "\n".join(["__u64 nobody_knows;", *reversed(wide), *rest]) + found[3]
