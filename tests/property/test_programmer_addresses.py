"""The programmer where addresses move: both families, several addresses of one endpoint, and nested prefixes.

Complements test_programmer.py, whose slices hold one IPv4 address an endpoint. Answers are compared with their revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.datapath.memory import MemoryTables
from hostward.datapath.programmer import TABLE_SLACK, Programmer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Port
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row
from tests.property.test_programmer import StoppedError, StoppingTables, bring

CAPACITY = Capacity(endpoints=8, cells=256, refs=8_192, prefixes=512, decisions=32, class_sets=8)
OWN = ("10.0.0.101", "10.0.0.102", "fd00::101", "fd00::102")
NAMES = ("t/a", "u/b")
REMOTES = ("10.0.0.1", "10.0.0.2", "10.0.0.101", "203.0.113.9", "fd00::1", "fd00::2", "2001:db8::1")
NESTED = (
    "10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/30", "10.0.0.1/32", "10.0.0.101/32", "203.0.113.0/24",
    "fd00::/8", "fd00::/64", "fd00::/126", "fd00::1/128", "2001:db8::/32",
)  # fmt: skip
IDENTITIES = (300, 301, 302, 303)
ANYTHING = ((0, 0),)
CLASSES = ClassSet(1, ((0, 0), (80, 1), (81, 0)), ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING)
DECISIONS = {
    1: Decision(1, "deny", ("t/default-deny",)),
    2: Decision(2, "allow", ("t/one",)),
    3: Decision(3, "allow", ("t/two",)),
}
ROWS = {1: Row(1, 1, (1, 2)), 2: Row(2, 1, (1, 3)), 3: Row(3, 1, (1, 1)), 4: Row(4, 1, (3, 2))}


@dataclass(frozen=True)
class Question:
    """One packet that opens a flow at an endpoint."""

    local: str
    direction: str
    remote: str
    port: int


QUESTIONS = tuple(
    Question(local, direction, remote, port)
    for local in OWN
    for direction in ("egress", "ingress")
    for remote in REMOTES
    if (":" in local) == (":" in remote)
    for port in (80, 81)
)


@st.composite
def slices(draw: st.DrawFn, revision: int) -> HostSlice:
    """Any consistent slice in which addresses belong to whomever they like."""
    owners = {address: draw(st.sampled_from((*NAMES, None))) for address in OWN}
    identity = {address: draw(st.sampled_from(IDENTITIES)) for address in OWN}
    addresses = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1}
    for prefix in draw(st.lists(st.sampled_from(NESTED), unique=True)):
        addresses[0, prefix] = draw(st.sampled_from((1, 2, *IDENTITIES)))
    endpoints, tables = dict[str, LocalEndpoint](), dict[tuple[int, str], dict[int, int]]()
    for index, name in enumerate(NAMES):
        own = {address: identity[address] for address, owner in owners.items() if owner == name}
        if own:
            mac = f"02:00:00:00:00:{index:02x}"
            endpoints[name] = LocalEndpoint(name, name[0], 0, mac, own, Port(f"p{index}"))
        for local in own.values():
            for direction in ("egress", "ingress"):
                peers = draw(st.lists(st.sampled_from((1, *IDENTITIES)), unique=True))
                tables[local, direction] = {peer: draw(st.sampled_from(sorted(ROWS))) for peer in peers}
    return HostSlice(revision, {0: "default"}, endpoints, addresses, {1: CLASSES}, ROWS, tables, DECISIONS)


_NETWORKS = {prefix: ip_network(prefix) for prefix in (*NESTED, "0.0.0.0/0", "::/0")}


def by_definition(value: HostSlice, name: str, question: Question) -> str:
    """What the slice says, by the steps of its module's docstring."""
    own = value.endpoints[name].addresses
    if question.local not in own:
        return "not its own"
    remote = ip_address(question.remote)
    containing = [prefix for _, prefix in value.addresses if remote in _NETWORKS[prefix]]
    longest = max(containing, key=lambda prefix: _NETWORKS[prefix].prefixlen)
    row = value.tables[own[question.local], question.direction].get(value.addresses[0, longest])
    if row is None:
        return f"unknown peer in {value.revision}"
    decision = DECISIONS[value.rows[row].cells[CLASSES.class_of(6, question.port)]]
    return f"{decision.verdict} by {decision.number} in {value.revision}"


def by_tables(model: MemoryTables, slot: int, question: Question) -> str:
    """What the tables say, in the same words."""
    given_answer = model.decide(slot, question.direction, question.local, question.remote, 6, question.port)
    if given_answer.reason in ("ip-spoof", "not-addressed"):
        return "not its own"
    if given_answer.reason == "unknown-peer":
        return f"unknown peer in {given_answer.revision}"
    return f"{given_answer.verdict} by {given_answer.number} in {given_answer.revision}"


def tables() -> StoppingTables:
    made = StoppingTables(CAPACITY)
    made.left = None
    return made


def check(model: MemoryTables, programmer: Programmer, value: HostSlice) -> None:
    for name in value.endpoints:
        found = {question: by_tables(model, programmer.slots[name], question) for question in QUESTIONS}
        assert found == {question: by_definition(value, name, question) for question in QUESTIONS}, name


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(slices(revision) for revision in range(1, 6))))
def test_addresses_mean_what_the_slice_in_force_says(history: tuple[HostSlice, ...]) -> None:
    model = tables()
    programmer = Programmer(model, {})
    for value in history:
        bring(programmer, value)
        for name in value.endpoints:
            found = {question: by_tables(model, programmer.slots[name], question) for question in QUESTIONS}
            assert same(found, value, name), "in force before anything is taken down"
        programmer.settle()
        check(model, programmer, value)


def same(found: dict[Question, str], value: HostSlice, name: str) -> bool:
    """Whether every answer is this slice's; an address that the slice does not know may also be known without peers."""
    if name not in value.endpoints:
        return False
    return all(
        answer == by_definition(value, name, question)
        or (question.local not in value.endpoints[name].addresses and answer == f"unknown peer in {value.revision}")
        for question, answer in found.items()
    )


@settings(max_examples=15, deadline=None)
@given(slices(1), slices(2))
def test_stopped_at_any_step_no_endpoint_mixes_two_revisions(old: HostSlice, new: HostSlice) -> None:
    for stop in range(100_000):
        model = tables()
        programmer = Programmer(model, {})
        bring(programmer, old)
        programmer.settle()
        slots = dict(programmer.slots)
        model.left = stop
        try:
            for name, endpoint in new.endpoints.items():
                slots[name] = programmer.claim_slot(name)
                programmer.configure(endpoint)
            programmer.program(new)
            programmer.settle()
        except StoppedError:
            model.left = None
        else:
            return
        for name in old.endpoints:
            found = {question: by_tables(model, slots[name], question) for question in QUESTIONS}
            assert same(found, old, name) or same(found, new, name) or name not in new.endpoints, (stop, name)
            if name not in new.endpoints and not same(found, old, name):
                # It is about to be removed: whatever it is answered, it is no more than it had.
                allowed = {question for question, answer in found.items() if answer.startswith("allow")}
                had = {q for q in QUESTIONS if by_definition(old, name, q).startswith("allow")}
                assert allowed <= had, (stop, name)
        restarted = Programmer(model, slots)
        bring(restarted, new)
        restarted.settle()
        check(model, restarted, new)


def test_more_identities_than_a_table_has_room_for_move_it_unchanged() -> None:
    """A table in force that has no room for new peers is copied to where it has; nothing that it says changes."""
    base = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1}
    endpoint = LocalEndpoint("t/a", "t", 0, "02:00:00:00:00:01", {OWN[0]: 300}, Port("p"))
    model = tables()
    programmer = Programmer(model, {})
    for revision, peers in enumerate((3, 2 * TABLE_SLACK, 3 * TABLE_SLACK, 5), start=1):
        addresses = {**base, **{(0, f"10.0.1.{number}/32"): 1_000 + number for number in range(1, peers + 1)}}
        both = {identity: 1 for identity in addresses.values() if identity != 1}
        held = {(300, "egress"): both, (300, "ingress"): both}
        value = HostSlice(
            revision, {0: "default"}, {"t/a": endpoint}, addresses, {1: CLASSES}, ROWS, held, DECISIONS
        )  # fmt: skip
        bring(programmer, value)
        programmer.settle()
        for number in range(1, 3 * TABLE_SLACK + 1):
            expected = "allow" if number <= peers else "deny"
            assert model.decide(1, "egress", OWN[0], f"10.0.1.{number}", 6, 80).verdict == expected, (revision, number)
