"""`guard:` of tenants and of the platform: what a response says, and which one holds where both speak.

The platform's is the floor: of each kind the stricter response holds and the lower threshold. Where only one of them
speaks, it holds, and where neither does, an alert is all that happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from hostward.model.guard import DEFAULT_THRESHOLDS, Guard, GuardKind, Response, Watch, default_watch

RESPONSE_WORDS = tuple(response.value for response in Response)
KIND_WORDS = tuple(kind.value for kind in GuardKind)
_FORM = re.compile(r"(?P<response>[a-z-]+)( above (?P<above>[1-9]\d{0,5}))?")
# What the datapath's bits can tell apart; of connections and packets more would be no recognition any more.
MOST = {
    GuardKind.HORIZONTAL_SCAN: 2_000,
    GuardKind.VERTICAL_SCAN: 500,
    GuardKind.SYN_FLOOD: 100_000,
    GuardKind.SPOOF: 100_000,
}


def parse_watch(kind: GuardKind, text: str) -> Watch:
    """``throttle`` or ``throttle above 200``. Raises ValueError: what is wrong and, in the next line, a hint."""
    found = _FORM.fullmatch(text)
    if found is None or found["response"] not in RESPONSE_WORDS:
        close = get_close_matches(text.partition(" ")[0], RESPONSE_WORDS, 1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"write {', '.join(RESPONSE_WORDS)}, or e.g. throttle above 200"
        )
        raise ValueError(f"{text[:64]!r} is no response\n{hint}")
    response = Response(found["response"])
    if found["above"] is None:
        return default_watch(kind, response)
    if response is Response.IGNORE:
        raise ValueError("what is ignored has no threshold\nwrite ignore")
    above = int(found["above"])
    if above > MOST[kind]:
        raise ValueError(f"{kind.value} is recognised above at most {MOST[kind]:,}\nwrite a lower number")
    return Watch(response, above)


def watch_text(kind: GuardKind, watch: Watch) -> str:
    """The shortest way to write a watch: the inverse of ``parse_watch``."""
    default = watch.response is Response.IGNORE or watch.above == DEFAULT_THRESHOLDS[kind]
    return watch.response.value if default else f"{watch.response.value} above {watch.above}"


def guard_of(platform: Mapping[GuardKind, Watch], tenant: Mapping[GuardKind, Watch]) -> Guard:
    """What holds for a tenant's endpoints."""
    return tuple(_stricter(kind, platform.get(kind), tenant.get(kind)) for kind in GuardKind)


def _stricter(kind: GuardKind, one: Watch | None, other: Watch | None) -> Watch:
    if one is None or other is None:
        return one or other or default_watch(kind)
    response = max(one.response, other.response, key=lambda response: response.severity)
    # Who ignores it has no say in when it is recognised.
    bounds = [watch.above for watch in (one, other) if watch.response is not Response.IGNORE]
    return Watch(response, min(bounds, default=DEFAULT_THRESHOLDS[kind]))
