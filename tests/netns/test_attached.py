"""What is attached and what decides, read from the kernel: it stays while nothing changes, and any change shows."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath.attached import TABLES, AttachedReader, read_attached
from hostward.datapath.kernel import OBJECT, KernelEnforcer
from hostward.datapath.tables import policy_index
from hostward.gate.kernel import GatePort, Hook, KernelDriver
from tests.netns.hooks import needs_tcx, on_every_hook
from tests.netns.pair import DENY, Pair, run
from tests.netns.test_life import CAPACITY, arrives, comes_back, enforcer

pytestmark = pytest.mark.netns

PORTS = {"acme/a", "acme/b"}


def map_dump(pins: Path, name: str) -> list[dict[str, list[str]]]:
    (folder,) = pins.glob("maps_*")
    words = ["bpftool", "-j", "map", "dump", "pinned", str(folder / name)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    entries: list[dict[str, list[str]]] = json.loads(done.stdout)
    return entries


def write_map(pins: Path, name: str, key: list[str], value: list[str]) -> None:
    (folder,) = pins.glob("maps_*")
    hexed = lambda words: [word.removeprefix("0x") for word in words]  # noqa: E731
    run(
        "bpftool",
        "map",
        "update",
        "pinned",
        str(folder / name),
        "key",
        "hex",
        *hexed(key),
        "value",
        "hex",
        *hexed(value),
    )


def u32(number: int) -> list[str]:
    return [f"{byte:02x}" for byte in number.to_bytes(4, "little")]


@on_every_hook
def test_a_reading_stays_while_traffic_flows_and_after_the_agent_came_back(pair: Pair, pins: Path, hook: str) -> None:
    held = enforcer(pins, hook)
    held.enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    assert first.programs.keys() == PORTS
    assert first.policies.keys() == PORTS | {TABLES}
    # Two ports' programs are loaded for two slots.
    assert len(set(first.programs.values())) == 2
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)
    assert reader.read() == first
    held.close()
    again = enforcer(pins, hook)
    again.enforce(pair.slice(1))
    # Other programs, other places in the tables, another generation; the same to every packet.
    assert reader.read() == first
    assert read_attached(pins) == first
    again.enforce(pair.slice(2))
    changed = reader.read()
    assert changed.programs == first.programs
    assert changed.policies != first.policies, "the revision is part of every verdict"


def test_nothing_is_read_where_nothing_is_pinned(pins: Path) -> None:
    assert read_attached(pins).programs == {}
    assert read_attached(pins).policies == {}


@on_every_hook
def test_what_is_taken_off_a_device_shows_at_that_port_alone(pair: Pair, pins: Path, hook: str) -> None:
    enforcer(pins, hook).enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    device = pair.device("a")
    if hook == "tcx":
        (link,) = pins.glob("ports/*acme@a/egress_link")
        link.unlink()
    else:
        run("tc", "filter", "del", "dev", device, "ingress", "pref", "1")
    changed = reader.read()
    assert changed.programs["acme/a"] != first.programs["acme/a"]
    assert changed.programs["acme/b"] == first.programs["acme/b"]
    assert changed.policies == first.policies


@on_every_hook
def test_a_lost_base_and_a_lost_device_show(pair: Pair, pins: Path, hook: str) -> None:
    enforcer(pins, hook).enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    run("tc", "filter", "del", "dev", pair.device("a"), "egress", "pref", "65535")
    without_base = reader.read()
    assert without_base.programs["acme/a"] != first.programs["acme/a"]
    run("ip", "link", "del", pair.device("a"))
    without_device = reader.read()
    assert without_device.programs["acme/a"] not in (first.programs["acme/a"], without_base.programs["acme/a"])


@needs_tcx
def test_another_program_at_the_hook_shows(pair: Pair, pins: Path) -> None:
    """In front of ours it could let everything pass; ours is still attached, and every map as it was."""
    enforcer(pins, "tcx").enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    core = _core.Datapath(str(OBJECT), str(pins), **asdict(CAPACITY))
    another = core.load_port(5, "acme@x")
    another.attach("", socket.if_nametoindex(pair.device("a")), "tcx")
    changed = reader.read()
    assert changed.programs["acme/a"] != first.programs["acme/a"]
    assert changed.programs["acme/b"] == first.programs["acme/b"]
    another.remove_pins()
    end_s = time.monotonic() + 30
    while reader.read() != first:  # the kernel takes a link away by and by
        assert time.monotonic() < end_s


@on_every_hook
def test_a_classifier_beside_ours_shows(pair: Pair, pins: Path, hook: str) -> None:
    enforcer(pins, hook).enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    device, another = pair.device("a"), str(next(pins.glob("ports/*acme@b/egress_program")))
    for priority, handle in (("7", "0x1"), ("1", "0x2")):
        place = ("dev", device, "ingress", "protocol", "all", "pref", priority, "handle", handle)
        run("tc", "filter", "add", *place, "bpf", "pinned", another, "da")
        changed = reader.read()
        assert changed.programs["acme/a"] != first.programs["acme/a"]
        assert changed.programs["acme/b"] == first.programs["acme/b"]
        run("tc", "filter", "del", *place, "bpf")
        assert reader.read() == first


def test_a_program_before_the_hooks_shows(pair: Pair, pins: Path) -> None:
    """XDP could send a workload's packets elsewhere before anything of ours sees them."""
    enforcer(pins).enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    numbers = [socket.if_nametoindex(pair.device(name)) for name in "ab"]
    gate = KernelDriver(pins / "gate", [GatePort("p", *numbers)], (), Hook.XDP)
    try:
        changed = reader.read()
        assert all(changed.programs[port] != first.programs[port] for port in PORTS)
    finally:
        gate.remove()
    end_s = time.monotonic() + 30
    while reader.read() != first:  # the kernel takes a link away by and by
        assert time.monotonic() < end_s


@needs_tcx
def test_another_slots_program_in_the_link_shows(pair: Pair, pins: Path) -> None:
    """The same instructions: only its constants tell that it decides for another endpoint."""
    enforcer(pins, "tcx").enforce(pair.slice(1))
    first = read_attached(pins)
    folder_a, folder_b = (next(pins.glob(f"ports/*acme@{name}")) for name in "ab")
    (folder_a / "egress_program").unlink()
    run("bpftool", "prog", "pin", "pinned", str(folder_b / "egress_program"), str(folder_a / "egress_program"))
    assert read_attached(pins).programs["acme/a"] != first.programs["acme/a"]


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("hw_decisions", lambda entry: entry["value"][4] == "0x02"),
        ("hw_cells", lambda entry: entry["value"][0] != "0x00"),
        ("hw_hosts4", lambda entry: True),
        ("hw_prefixes4", lambda entry: True),
    ],
)
def test_an_element_that_was_changed_by_hand_shows(
    pair: Pair, pins: Path, table: str, where: Callable[[dict[str, list[str]]], bool]
) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    entry = next(entry for entry in map_dump(pins, table) if where(entry))
    value = list(entry["value"])
    place = 4 if table == "hw_decisions" else 0
    value[place] = "0x01" if value[place] != "0x01" else "0x03"
    write_map(pins, table, entry["key"], value)
    changed = reader.read()
    assert changed.policies != first.policies
    assert changed.programs == first.programs
    write_map(pins, table, entry["key"], list(entry["value"]))
    assert reader.read() == first, "and it is the element that showed"


def test_a_policy_that_was_switched_and_another_mac_show(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    reader = AttachedReader(pins)
    first = reader.read()
    slot = held.programmer.slots["acme/a"]
    other = held.programmer.slots["acme/b"]
    active = next(e for e in map_dump(pins, "hw_active") if e["key"] == [f"0x{b}" for b in u32(slot)])
    word = list(active["value"])
    index = next(at for at in (0, 4) if word[at : at + 4] == [f"0x{b}" for b in u32(_policy(held, slot))])
    switched = [*word[:index], *u32(_policy(held, other)), *word[index + 4 :]]
    write_map(pins, "hw_active", active["key"], switched)
    assert reader.read().policies["acme/a"] != first.policies["acme/a"]
    write_map(pins, "hw_active", active["key"], word)
    assert reader.read() == first
    endpoint = next(e for e in map_dump(pins, "hw_endpoints") if e["key"] == active["key"])
    write_map(pins, "hw_endpoints", endpoint["key"], ["02", "ff", *endpoint["value"][2:]])
    assert reader.read().policies["acme/a"] != first.policies["acme/a"]


def _policy(held: KernelEnforcer, slot: int) -> int:
    return policy_index(slot, held.programmer.layout.halves[slot])


def test_a_quarantine_does_not_show_and_a_changed_rule_does(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    desired = pair.slice(1)
    held.enforce(desired)
    reader = AttachedReader(pins)
    first = reader.read()
    held.port_of("acme/a").order("hold", 0)
    assert reader.read() == first
    held.enforce(replace(pair.slice(1, cell=DENY), revision=2))
    held.settle()
    second = reader.read()
    assert second.policies["acme/a"] != first.policies["acme/a"]


def test_a_reading_is_cheap(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    reader = AttachedReader(pins)
    reader.read()
    begun = time.perf_counter()
    reader.read()
    assert time.perf_counter() - begun < 0.5
