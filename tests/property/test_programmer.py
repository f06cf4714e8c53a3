"""The programmer against the slices' own definition: after every change, and stopped at every step of one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.datapath.memory import MemoryTables
from hostward.datapath.programmer import Programmer
from hostward.model.slice import HostSlice
from tests.property.slices import CAPACITY, LOCALS, PORTS, REMOTES, answer, slices


class StoppedError(Exception):
    """The process ended here."""


class StoppingTables(MemoryTables):
    """Ends the process after a number of writes."""

    __slots__ = ("left",)
    left: int | None

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if name.startswith(("write_", "remove_", "activate", "advance_", "create_", "clear_")):
            left = super().__getattribute__("left")
            if left is not None:
                if left == 0:
                    raise StoppedError
                self.left = left - 1
        return value


def tables() -> StoppingTables:
    made = StoppingTables(CAPACITY)
    made.left = None
    return made


def bring(programmer: Programmer, desired: HostSlice) -> None:
    """What the enforcer does around ``program``."""
    for name, endpoint in desired.endpoints.items():
        programmer.claim_slot(name)
        programmer.configure(endpoint)
    programmer.program(desired)
    for name in [name for name in programmer.slots if name not in desired.endpoints]:
        programmer.release_slot(name)


def answers(model: MemoryTables, slot: int, name: str) -> list[str]:
    """Every question about one endpoint, answered by the tables."""
    found = []
    for direction in ("egress", "ingress"):
        for remote in REMOTES:
            for port in PORTS:
                given = model.decide(slot, direction, LOCALS[name], remote, 6, port)
                found.append(given.reason if given.reason == "unknown-peer" else f"{given.verdict} {given.number}")
    return found


def expected(value: HostSlice, name: str) -> list[str]:
    return [
        answer(value, name, direction, remote, port)
        for direction in ("egress", "ingress")
        for remote in REMOTES
        for port in PORTS
    ]


def check(model: MemoryTables, programmer: Programmer, value: HostSlice) -> None:
    for name in value.endpoints:
        assert answers(model, programmer.slots[name], name) == expected(value, name), name
        _, generation = model.read_active(programmer.slots[name])
        assert generation, "an endpoint without a generation has no network"


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(slices(revision) for revision in range(1, 7))))
def test_every_slice_of_a_history_is_in_force_after_its_turn(history: tuple[HostSlice, ...]) -> None:
    model = tables()
    programmer = Programmer(model, {})
    for value in history:
        bring(programmer, value)
        check(model, programmer, value)


@settings(max_examples=30, deadline=None)
@given(st.lists(slices(1), min_size=1, max_size=1), slices(2), slices(3))
def test_a_restart_brings_the_next_slice_into_force(
    first: list[HostSlice], second: HostSlice, third: HostSlice
) -> None:
    model = tables()
    bring(Programmer(model, {}), first[0])
    # Slots are what the pins say; the programmer hands them out in the slice's order.
    slots = {name: index + 1 for index, name in enumerate(first[0].endpoints)}
    restarted = Programmer(model, slots)
    for value in (second, third):
        bring(restarted, value)
        check(model, restarted, value)


@settings(max_examples=15, deadline=None)
@given(slices(1), slices(2))
def test_stopped_at_any_step_each_endpoint_has_the_old_revision_or_the_new_one(old: HostSlice, new: HostSlice) -> None:
    stop = 0
    while True:
        model = tables()
        programmer = Programmer(model, {})
        bring(programmer, old)
        slots = dict(programmer.slots)
        model.left = stop
        try:
            for name, endpoint in new.endpoints.items():
                slots[name] = programmer.claim_slot(name)
                programmer.configure(endpoint)
            programmer.program(new)
        except StoppedError:
            model.left = None
            for name in old.endpoints:
                found = answers(model, slots[name], name)
                gone = ["deny 0"] * len(found)
                possible = [expected(old, name), expected(new, name) if name in new.endpoints else gone]
                assert found in possible, (stop, name)
            # An endpoint that is new has no network, or the new revision.
            for name in new.endpoints.keys() - old.endpoints.keys():
                if name in slots and model.read_active(slots[name])[1]:
                    assert answers(model, slots[name], name) == expected(new, name), (stop, name)
            restarted = Programmer(model, slots)
            bring(restarted, new)
            check(model, restarted, new)
            stop += 1
        else:
            return


@settings(max_examples=10, deadline=None)
@given(slices(1), slices(2))
def test_going_back_and_forth_leaks_nothing(one: HostSlice, other: HostSlice) -> None:
    """Thirty changes in tables that hold only a few: what a change frees, the next one may use."""
    model = tables()
    programmer = Programmer(model, {})
    for _ in range(15):
        bring(programmer, one)
        bring(programmer, other)
    check(model, programmer, other)
