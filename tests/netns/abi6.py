"""The datapath of ABI 6 as it was, running on one device: its own object, filled and attached by bpftool and tc alone.

The present library cannot write that version's maps. What they hold is taken from present ones that were filled for no
device, since only two values changed their layout: an endpoint's, and the number of the counters.
"""

from __future__ import annotations

import json
import lzma
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Port
from hostward.model.slice import HostSlice

ARCHIVE = Path(__file__).parents[1] / "data" / "datapath" / "endpoint-abi6.bpf.o.xz"
VERSION = 6
# Whose layout is the same in both versions.
_SAME = (
    *("hw_networks", "hw_policies", "hw_refs", "hw_cells", "hw_decisions"),
    *("hw_hosts4", "hw_hosts6", "hw_prefixes4", "hw_prefixes6"),
)
_RING_PLACE = 52
_SLOT = 1  # the first that is given away
_COARSE = 6  # CLOCK_MONOTONIC_COARSE, which Python has no name for
_INNER_MAP = 0x1000


def bpftool(*arguments: str) -> Any:
    done = subprocess.run(["bpftool", "-j", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def words(data: bytes) -> tuple[str, ...]:
    return ("hex", *(f"{byte:02x}" for byte in data))


def dump(path: Path) -> list[tuple[bytes, bytes]]:
    """The elements of a map that are not all zeros."""
    found = []
    for entry in bpftool("map", "dump", "pinned", str(path)):
        value = entry.get("value", entry.get("inner_map_id", []))
        if isinstance(value, list):
            found.append(tuple(bytes(int(byte, 16) for byte in part) for part in (entry["key"], value)))
    return [(key, value) for key, value in found if any(value)]


class OlderDatapath:
    """One slot's programs on one device, by clsact, pinned as that version pinned them."""

    def __init__(self, folder: Path, pins: Path, staging: Path, capacity: Capacity) -> None:
        self.maps = pins / f"maps_{VERSION}"
        self._pins, self._staging, self._capacity = pins, staging, capacity
        self._object = folder / "endpoint.bpf.o"
        self._object.write_bytes(self._for_this_machine(lzma.decompress(ARCHIVE.read_bytes())))

    @staticmethod
    def _for_this_machine(code: bytes) -> bytes:
        """As the loader does: the length of a tick, in the constants, and the slot."""
        tick = round(time.clock_getres(_COARSE) * 1e9)
        default = struct.pack("<4I", 0, VERSION, 4_000_000, 0)
        assert code.count(default) == 1
        return code.replace(default, struct.pack("<4I", _SLOT, VERSION, tick, 0))

    def start(self, desired: HostSlice, device: str) -> None:
        """Enforce a slice of one endpoint on a device."""
        (name,) = desired.endpoints
        port = self._pins / "ports" / f"{_SLOT}@{name.replace('/', '@')}"
        for folder in (self.maps, port):
            folder.mkdir(parents=True)
        programs = self._staging / "programs"
        bpftool("prog", "loadall", str(self._object), str(programs), "pinmaps", str(self.maps))
        self._fill(replace(desired, endpoints={name: replace(desired.endpoints[name], port=Port("hw-absent"))}))
        for hook, program in (("ingress", "hw_egress"), ("egress", "hw_ingress")):
            (programs / program).rename(port / f"{program.removeprefix('hw_')}_program")
            pinned = port / f"{program.removeprefix('hw_')}_program"
            if hook == "ingress":
                subprocess.run(["tc", "qdisc", "add", "dev", device, "clsact"], check=True)
            for priority, path in ((1, pinned), (65535, programs / "hw_closed")):
                command = f"tc filter add dev {device} {hook} prio {priority} handle 1 bpf da pinned {path}"
                subprocess.run(command.split(), check=True)
        subprocess.run(["ip", "link", "set", device, "up"], check=True)

    def _fill(self, desired: HostSlice) -> None:
        held = open_enforcer(self._staging / "present", capacity=self._capacity)
        held.enforce(desired)
        present = next((self._staging / "present").glob("maps_*"))
        for name in _SAME:
            for key, value in dump(present / name):
                self._update(name, key, *words(value))
        for key, value in dump(present / "hw_endpoints"):
            self._update("hw_endpoints", key, *words(value[:6] + bytes(2) + value[8:16] + value[24:40]))
        for key, value in dump(present / "hw_classes"):
            self._update("hw_classes", key, "id", str(int.from_bytes(value, "little")))
        quota = next(iter(desired.endpoints.values())).quota.flows
        ring = self._staging / "ring"
        shape = f"type array key 4 value {_RING_PLACE} entries {quota} name hw_ring flags {_INNER_MAP}"
        bpftool("map", "create", str(ring), *shape.split())
        self._update("hw_rings", _SLOT.to_bytes(4, "little"), "pinned", str(ring))
        for key, value in dump(present / "hw_active"):
            self._update("hw_active", key, *words(value))

    def _update(self, name: str, key: bytes, *value: str) -> None:
        bpftool("map", "update", "pinned", str(self.maps / name), "key", *words(key), "value", *value)

    def flows(self) -> list[dict[str, Any]]:
        return [entry["formatted"]["value"] for entry in bpftool("map", "dump", "pinned", str(self.maps / "hw_flows4"))]
