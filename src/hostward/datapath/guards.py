"""Guards between the model and the kernel: thresholds as marks, marks as counts, and what a guard says of its endpoint.

The datapath counts distinct addresses and ports as marks in so many bits (linear counting; Whang, Vander-Zanden, Taylor
1990): n distinct ones leave ``bits * (1 - exp(-n / bits))`` marks on average, with a standard error of some 2 % for 100
addresses and 4 % for 100 ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from hostward import _core
from hostward.datapath.enforcer import QUARANTINED_FOR
from hostward.model.endpoint import EndpointState
from hostward.model.guard import Guard, GuardEvent, GuardKind, Response
from hostward.model.slice import LocalEndpoint

KINDS = tuple(GuardKind)
RESPONSES = tuple(Response)
# enum hw_guard_size of bpf/abi.h, of the kinds that count distinct things.
_BITS = {GuardKind.HORIZONTAL_SCAN: 1024, GuardKind.VERTICAL_SCAN: 256}


def marks_of(kind: GuardKind, count: int) -> int:
    """The marks that so many leave; of what is counted one by one the count itself."""
    bits = _BITS.get(kind)
    return count if bits is None else round(bits * (1 - exp(-count / bits)))


def count_of(kind: GuardKind, marks: int) -> int:
    """The count that left so many marks, as near as they tell: the inverse of ``marks_of``."""
    bits = _BITS.get(kind)
    if bits is None:
        return marks
    # Full: at least so many.
    return round(-bits * log(max(1 - marks / bits, 1 / bits)))


def kernel_guard(guard: Guard) -> tuple[tuple[int, int], ...]:
    """A guard as the tables hold it: the response's number and a threshold in marks, by kind."""
    return tuple(
        (watch.response.severity, marks_of(kind, watch.above)) for kind, watch in zip(KINDS, guard, strict=True)
    )


@dataclass(frozen=True, slots=True)
class GuardState:
    """What an endpoint's guard does now. ``in_force``: whether packets find it so."""

    throttled_for: GuardKind | None
    quarantined_for: GuardKind | None
    held: bool
    release: int
    recognised: dict[GuardKind, int]
    in_force: bool

    @classmethod
    def read(cls, core: _core.Datapath, slot: int) -> GuardState:
        """Raises CoreError."""
        throttled, quarantined, held, release, recognised, in_force = core.read_guard(slot)
        return cls(
            None if throttled is None else KINDS[throttled],
            None if quarantined is None else KINDS[quarantined],
            held,
            release,
            dict(zip(KINDS, recognised, strict=True)),
            in_force,
        )

    @property
    def standing(self) -> tuple[EndpointState, str]:
        """Where the endpoint stands, and why."""
        if self.held:
            return EndpointState.QUARANTINED, "quarantined by command"
        if self.quarantined_for is not None:
            return EndpointState.QUARANTINED, QUARANTINED_FOR + self.quarantined_for.value
        if self.throttled_for is not None:
            return EndpointState.THROTTLED, f"throttled for {self.throttled_for.value}"
        return EndpointState.ENFORCED, ""


def order_guard(core: _core.Datapath, port: _core.Port, endpoint: LocalEndpoint) -> bool:
    """Have the guard be as the slice says: released as often, held or not. Whether it had to be mended otherwise.

    A release is carried out once: its number is kept with the guard, and only a greater one counts. Raises CoreError.
    """
    state = GuardState.read(core, port.slot)
    held, mended = state.held, False
    if endpoint.released > state.release:
        port.order("release", endpoint.released)
        held = False
    elif not state.in_force:
        port.order("mend", 0)
        mended = True
    if endpoint.held != held:
        port.order("hold" if endpoint.held else "unhold", 0)
    return mended


def revision_of(core: _core.Datapath, event: _core.Event, endpoint: LocalEndpoint, revision: int) -> int:
    """A revision under which something was recognised, with ``revision`` in force now; of a quarantine never too new.

    The kernel does not write it down. But a quarantine ends by a release alone, so one that has ended was before that;
    0: it was of another endpoint, which had the slot before. Raises CoreError.
    """
    lasting = GuardState.read(core, event.slot).quarantined_for is not None
    if RESPONSES[event.response] is not Response.QUARANTINE or lasting:
        return revision
    return min(revision, max(endpoint.released - 1, 0))


def guard_event(event: _core.Event, offset_ns: int, endpoint: LocalEndpoint, network: str, revision: int) -> GuardEvent:
    """What the kernel tells of a recognition under ``revision``, see ``revision_of``."""
    kind = KINDS[event.number]
    return GuardEvent(
        time_ns=event.time_ns + offset_ns,
        kind=kind,
        response=RESPONSES[event.response],
        count=count_of(kind, event.packets),
        endpoint=endpoint.id,
        tenant=endpoint.tenant,
        network=network,
        revision=revision,
        protocol=event.protocol,
        source=event.source,
        source_port=event.source_port,
        destination=event.destination,
        destination_port=event.destination_port,
    )
