"""Executables as the datapath knows them: a path is a hash of its names, and an endpoint's flows remember it as a number.

The hash is that of bpf/process_path.h. Nothing is protected by it: who may choose the path of a file, may choose the very
path that a rule names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostward.errors import CapacityError
from hostward.model.slice import HostSlice
from hostward.policy.processes import NAME_BYTES, TELLABLE, is_tellable

_BASIS = 0xCBF29CE484222325
_FACTOR = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
# enum hw_process: smaller numbers stand for processes that no rule names, and a flow keeps its number in one byte.
FIRST_NUMBER = 2
MOST_NUMBERS = 256 - FIRST_NUMBER


def path_hash(path: str) -> int:
    """What the kernel's programs note of a process that executes the file at this path."""
    if "/" not in path or not is_tellable(path):
        raise CapacityError("no process can be told by this executable", subject=path, hint=TELLABLE)
    value = _BASIS
    for name in reversed(path[1:].split("/")):
        padded = name.encode().ljust(NAME_BYTES + 1, b"\0")
        for start in range(0, len(padded), 8):
            value = (value ^ int.from_bytes(padded[start : start + 8], "little")) * _FACTOR & _MASK
            value ^= value >> 32
    return value


def named_at_ends(desired: HostSlice) -> dict[str, frozenset[str]]:
    """By endpoint, the executables that decisions name at its end: as who opens its connections, or accepts them."""
    naming = {
        (number, direction): frozenset(path for paths, _ in judged.named for path in paths)
        for number, decision in desired.decisions.items()
        for direction, judged in (("egress", decision.opener), ("ingress", decision.acceptor))
        if judged is not None and judged.named
    }
    if not naming:
        return dict.fromkeys(desired.endpoints, frozenset())
    by_identity: dict[int, set[str]] = {}
    for (identity, direction), table in desired.tables.items():
        cells = (number for row in set(table.values()) for number in set(desired.rows[row].cells))
        named = by_identity.setdefault(identity, set())
        for number in set(cells):
            named |= naming.get((number, direction), frozenset())
    return {
        name: frozenset().union(*(by_identity.get(identity, ()) for identity in set(endpoint.addresses.values())))
        for name, endpoint in desired.endpoints.items()
    }


def numbered(held: Mapping[int, int], wanted: Iterable[int], endpoint: str) -> dict[int, int]:
    """Numbers by executable for those ``wanted``, on top of those ``held``.

    A number stays its executable's for as long as the endpoint is there: a flow of it may still remember it.
    Raises CapacityError when an endpoint's are used up.
    """
    numbers = dict(held)
    free = iter(sorted(set(range(FIRST_NUMBER, FIRST_NUMBER + MOST_NUMBERS)) - set(numbers.values())))
    for executable in sorted(set(wanted) - numbers.keys()):
        number = next(free, None)
        if number is None:
            raise CapacityError(
                f"rules have named more than {MOST_NUMBERS} executables",
                subject=f"endpoint {endpoint}",
                hint="name fewer, or attach the endpoint anew: its numbers are then given out afresh",
            )
        numbers[executable] = number
    return numbers
