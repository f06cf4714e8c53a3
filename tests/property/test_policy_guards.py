"""Guards, quarantines and releases, from the policy's text to the tables: what each endpoint's slice says of them, over the
wire, as a difference, and in the datapath's configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.datapath.memory import MemoryTables
from hostward.datapath.programmer import Programmer
from hostward.model.endpoint import Endpoint
from hostward.model.guard import GuardKind, Response, Watch
from hostward.model.slice import HostSlice
from hostward.policy import (
    Compiled,
    Numbers,
    SliceDelta,
    apply_delta,
    compile_policy,
    decode_slice,
    diff_slices,
    encode_slice,
    parse_sources,
)
from tests.property.slices import CAPACITY, slices
from tests.property.strategies import HOSTS, NOW, World, worlds
from tests.property.test_programmer import bring

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
# By kind: a response as it is written, and a threshold where one is.
Said = dict[str, tuple[str, int | None]]
DEFAULTS = {"horizontal-scan": 100, "vertical-scan": 100, "syn-flood": 500, "spoof": 10}
MILDEST_FIRST = ["ignore", "alert", "throttle", "quarantine"]
# Of these the datapath counts marks; of the others, things.
MARKED = {"horizontal-scan": 1_024, "vertical-scan": 256}


@st.composite
def said(draw: Any) -> Said:
    """What one file says under `guard:`, of some kinds."""
    kinds = draw(st.lists(st.sampled_from(sorted(DEFAULTS)), unique=True))
    made: Said = {}
    for kind in kinds:
        response = draw(st.sampled_from(MILDEST_FIRST))
        above = None if response == "ignore" else draw(st.sampled_from((None, 1, 7, 100, 500)))
        made[kind] = response, above
    return made


@dataclass(frozen=True)
class Guarded:
    """A world whose files have guards, and whose endpoints some were quarantined or released."""

    world: World
    said: dict[str, Said]

    def compiled(self, numbers: Numbers | None = None) -> Compiled:
        return compile_policy(self.world.policies, self.world.endpoints, numbers or Numbers.empty(), NOW)

    def expected(self, tenant: str) -> tuple[Watch, ...]:
        """The stricter response and the lower threshold of platform and tenant; who ignores it has no say in that."""
        return tuple(self._expected(kind, tenant) for kind in GuardKind)

    def _expected(self, kind: GuardKind, tenant: str) -> Watch:
        found = [self.said[name][kind.value] for name in ("platform", tenant) if kind.value in self.said.get(name, {})]
        if not found:
            return Watch(Response.ALERT, DEFAULTS[kind.value])
        strictest = max((response for response, _ in found), key=MILDEST_FIRST.index)
        bounds = [above or DEFAULTS[kind.value] for response, above in found if response != "ignore"]
        return Watch(Response(strictest), min(bounds, default=DEFAULTS[kind.value]))


@st.composite
def guarded(draw: Any, world: World) -> Guarded:
    """The same world with guards in its files."""
    texts, every = [], {}
    for text in world.text.split("---\n"):
        name = "platform" if text.startswith("platform:") else text.partition("\n")[0].removeprefix("tenant: ")
        every[name] = own = draw(said())
        lines = [f"{kind}: {response}{f' above {above}' if above else ''}" for kind, (response, above) in own.items()]
        texts.append(f"{text}{'  ' if name == 'platform' else ''}guard: {{{', '.join(lines)}}}\n")
    policies = parse_sources([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])
    endpoints = tuple(draw(contained(endpoint)) for endpoint in world.endpoints)
    return Guarded(World(policies, endpoints, "---\n".join(texts)), every)


def contained(endpoint: Endpoint) -> st.SearchStrategy[Endpoint]:
    return st.builds(
        lambda why, released: replace(endpoint, quarantine=why, released=released),
        st.sampled_from(("", "", "by command", "its guard recognised spoof")),
        st.sampled_from((0, 0, 1, 9, 2**32 - 1)),
    )


@st.composite
def changes(draw: Any) -> tuple[Guarded, Guarded]:
    """Two revisions that differ in guards, quarantines and releases alone."""
    world = draw(worlds())
    return draw(guarded(world)), draw(guarded(world))


def slices_of(compiled: Compiled, revision: int) -> dict[str, HostSlice]:
    return {host: compiled.slice_for(host, revision) for host in HOSTS}


@given(worlds().flatmap(guarded))
@EXAMPLES
def test_a_slice_says_what_the_files_and_the_endpoints_say(made: Guarded) -> None:
    declared = {endpoint.id: endpoint for endpoint in made.world.endpoints}
    for slice_ in slices_of(made.compiled(), 1).values():
        for name, local in slice_.endpoints.items():
            one = declared[name]
            assert local.guard == made.expected(one.tenant), name
            assert (local.held, local.released) == (bool(one.quarantine), one.released), name


@given(worlds().flatmap(guarded))
@EXAMPLES
def test_they_come_over_the_wire_as_they_are(made: Guarded) -> None:
    for slice_ in slices_of(made.compiled(), 1).values():
        content = encode_slice(slice_)
        assert decode_slice(content) == slice_
        assert encode_slice(decode_slice(content)) == content


@given(changes())
@EXAMPLES
def test_the_difference_is_the_endpoints_that_differ_and_gives_the_new_slice(change: tuple[Guarded, Guarded]) -> None:
    first = change[0].compiled()
    before = slices_of(first, 1)
    after = slices_of(change[1].compiled(first.numbers), 2)
    for host in HOSTS:
        delta = diff_slices(before[host], after[host])
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=SliceDelta)
        assert apply_delta(before[host], sent) == after[host]
        differing = {name for name, one in after[host].endpoints.items() if one != before[host].endpoints[name]}
        assert sent.set_endpoints.keys() == differing
        contents = {name: getattr(sent, name) for name in SliceDelta.__slots__ if name.startswith(("set_", "removed_"))}
        assert {name for name, content in contents.items() if content} <= {"set_endpoints"}


@given(worlds().flatmap(guarded), st.data())
@EXAMPLES
def test_a_quarantine_of_one_endpoint_is_what_a_whole_compilation_makes(made: Guarded, data: st.DataObject) -> None:
    compiled = made.compiled()
    chosen = data.draw(st.sampled_from(made.world.endpoints))
    changed = data.draw(contained(chosen))
    endpoints = tuple(changed if one is chosen else one for one in made.world.endpoints)
    at_once = slices_of(compiled.with_endpoints({chosen.id: changed}), 2)
    whole = compile_policy(made.world.policies, endpoints, compiled.numbers, NOW)
    assert at_once == slices_of(whole, 2)


@st.composite
def watched(draw: Any, revision: int) -> HostSlice:
    """A slice of the tables' own, with a guard for each endpoint."""
    made = draw(slices(revision))
    endpoints = {}
    for name, one in made.endpoints.items():
        watch = st.builds(Watch, st.sampled_from(list(Response)), st.integers(1, 500))
        endpoints[name] = replace(one, guard=tuple(draw(watch) for _ in GuardKind))
    return replace(made, endpoints=endpoints)


@given(watched(1), watched(2))
@EXAMPLES
def test_the_tables_have_each_endpoints_guard_after_every_change(first: HostSlice, second: HostSlice) -> None:
    tables = MemoryTables(CAPACITY)
    programmer = Programmer(tables, {})
    for value in (first, second):
        bring(programmer, value)
        for name, one in value.endpoints.items():
            found = tables.endpoints[programmer.slots[name]].guard
            for kind, watch, (response, threshold) in zip(GuardKind, one.guard, found, strict=True):
                assert MILDEST_FIRST[response] == watch.response.value
                if kind.value in MARKED:
                    # Marks fall together, and never apart.
                    assert 0 < threshold <= min(watch.above, MARKED[kind.value])
                else:
                    assert threshold == watch.above
