"""Mappings that many slices hold at once, and what is made of one of them once for all of these slices.

With thousands of hosts most know the same peers. Whatever is shared is read-only, so that no holder can change another's,
and what was made of it stays true for as long as it is the same object.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from types import MappingProxyType
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")

# The mappings of a revision and of the one before, for a few kinds of hosts.
_RESULTS_KEPT = 4


class SharedMappings(Generic[_Key, _Value]):
    """The mappings asked for last, bounded by their entries all together. Callable from any thread."""

    def __init__(self, entries: int) -> None:
        self._room = entries
        self._kept: OrderedDict[Hashable, Mapping[_Key, _Value]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], dict[_Key, _Value]]) -> Mapping[_Key, _Value]:
        """The mapping of this key, made if it is not kept."""
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        made = MappingProxyType(make())
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._room -= len(made)
            while self._room < 0:
                _, oldest = self._kept.popitem(last=False)
                self._room += len(oldest)
        return made


class LastResults(Generic[_Result]):
    """What one function made of the shared mappings that it was given last; nobody may change it."""

    def __init__(self) -> None:
        self._kept: deque[tuple[tuple[Mapping[object, object], ...], _Result]] = deque(maxlen=_RESULTS_KEPT)

    def of(self, function: Callable[..., _Result], *mappings: Mapping[_Key, _Value]) -> _Result:
        """The function's result for these mappings. Of others than shared ones nothing is remembered."""
        if not all(isinstance(mapping, MappingProxyType) for mapping in mappings):
            return function(*mappings)
        for given, result in tuple(self._kept):
            if all(one is other for one, other in zip(given, mappings, strict=True)):
                return result
        result = function(*mappings)
        self._kept.append((mappings, result))  # type: ignore[arg-type]  # only ever compared by identity
        return result
