"""The compiler at size: one tenant of 1,000 groups, 10,000 rules and 100,000 endpoints (see ``compiler_world``).

Every round is a process of its own, so that its peak of memory is its own. Measured are the reading of the text, the whole
compilation from what was read, one endpoint added or relabelled in what was compiled (each a revision of its own), one
host's slice with its bytes on the wire, and for size (a) a change of policy with all its hosts (``policy_change``). The
world itself, some 100 MiB, is in the peak.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from random import Random
from resource import RUSAGE_SELF, getrusage
from statistics import median

from bench.compiler_world import PER_HOST, TENANT, Size, endpoint, labels, policy_text
from bench.policy_change import PolicyChange, measure
from hostward.policy import Compiled, Numbers, compile_policy, encode_slice, parse_sources

SIZES = {"a": Size(labels_per_group=3), "b": Size(labels_per_group=2)}
# Of issue 3: seconds, MiB of memory, milliseconds, MiB of slice.
TARGETS = {"a": (3.0, 1_024.0, 2.0, 2.0), "b": (10.0, 2_048.0, 2.0, 32.0)}
# Of the larger one no host could hold its part by default, and the change would be refused at the first.
CHANGED = "a"
_SEED = 20_261_123
_CHANGES = 1_000
_HOSTS = 5
_COMPILED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Round:
    """One process's figures."""

    identities: int
    parse_s: float
    compile_s: float
    peak_mib: float
    change_ms: tuple[float, ...]  # each change's
    slice_s: tuple[float, ...]  # each host's
    slice_mib: tuple[float, ...]
    peers: int  # entries of the largest slice's tables
    policy_change: PolicyChange | None = None


def run(rounds: int, say: Callable[[str], None]) -> dict[str, list[Round]]:
    """Measure both sizes, alternating."""
    found: dict[str, list[Round]] = {name: [] for name in SIZES}
    for number in range(rounds):
        for name, size in SIZES.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                measured = pool.submit(_round, size).result()
            if name == CHANGED:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    measured = replace(measured, policy_change=pool.submit(_policy_change, size).result())
            found[name].append(measured)
            say(f"compiler: round {number + 1} of {rounds}, ({name}): {found[name][-1].compile_s:.2f} s")
    return found


def as_json(found: dict[str, list[Round]]) -> dict[str, object]:
    """For the result file: the generator, and each round with its changes as median and maximum."""
    return {
        "generator": {"seed": _SEED, "per_host": PER_HOST, **{name: asdict(size) for name, size in SIZES.items()}},
        "rounds": {
            name: [
                {
                    **asdict(each),
                    "change_ms": {"median": median(each.change_ms), "max": max(each.change_ms), "n": _CHANGES},
                }
                for each in rounds
            ]
            for name, rounds in found.items()
        },
    }


def table(found: dict[str, list[Round]]) -> list[str]:
    """Minimum and median of the rounds, and what was aimed at."""
    lines = ["compiler                             min      median      target"]
    for name, rounds in found.items():
        compile_s, peak_mib, change_ms, slice_mib = TARGETS[name]
        rows: list[tuple[str, list[float], float | None]] = [
            ("read the text, s", [r.parse_s for r in rounds], None),
            ("compile, s", [r.compile_s for r in rounds], compile_s),
            ("peak of memory, MiB", [r.peak_mib for r in rounds], peak_mib),
            ("one endpoint, ms", [median(r.change_ms) for r in rounds], change_ms),
            ("a host's slice, s", [median(r.slice_s) for r in rounds], None),
            ("largest slice, MiB", [max(r.slice_mib) for r in rounds], slice_mib),
        ]
        changes = [r.policy_change for r in rounds if r.policy_change is not None]
        if changes:
            hosts = changes[0].hosts
            rows += [
                (f"policy, {hosts:,} hosts, s", [c.commit_s for c in changes], None),
                ("  per host, ms", [c.commit_s / hosts * 1e3 for c in changes], None),
                ("  peak of memory, MiB", [c.peak_mib for c in changes], None),
            ]
        lines.append(f"({name}) {rounds[0].identities:,} identities")
        for title, values, target in rows:
            aim = "" if target is None else f"{target:12g}"
            lines.append(f"  {title:26}{min(values):12.3f}{median(values):12.3f}{aim}")
    return lines


def _round(size: Size) -> Round:
    random = Random(_SEED)
    text = policy_text(size, random).encode()
    start = time.perf_counter()
    policies = parse_sources([("big.yaml", text)])
    parsed = time.perf_counter()
    endpoints = [endpoint(number, labels(random)) for number in range(size.endpoints)]
    begun = time.perf_counter()
    compiled = compile_policy(policies, endpoints, Numbers.empty(), _COMPILED_AT)
    compile_s = time.perf_counter() - begun
    identities = compiled.live.bit_count()
    compiled, change_ms = _changes(compiled, size, random)
    slice_s, slice_mib, peers = _slices(compiled, size, random)
    peak_mib = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    return Round(identities, parsed - start, compile_s, peak_mib, change_ms, slice_s, slice_mib, peers)


def _policy_change(size: Size) -> PolicyChange:
    random = Random(_SEED)
    text = policy_text(size, random)
    endpoints = [endpoint(number, labels(random)) for number in range(size.endpoints)]
    return measure(text, endpoints, _COMPILED_AT)


def _changes(compiled: Compiled, size: Size, random: Random) -> tuple[Compiled, tuple[float, ...]]:
    """Endpoints added and relabelled in turn."""
    took: list[float] = []
    for number in range(_CHANGES):
        if number % 2:
            new = endpoint(size.endpoints + number, labels(random))
        else:
            old = compiled.endpoints[f"{TENANT}/e{random.randrange(size.endpoints)}"]
            new = replace(old, labels=labels(random))
        start = time.perf_counter()
        compiled = compiled.with_endpoints({new.id: new})
        took.append((time.perf_counter() - start) * 1e3)
    return compiled, tuple(took)


def _slices(compiled: Compiled, size: Size, random: Random) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    took: list[float] = []
    mib: list[float] = []
    peers = 0
    for host in random.sample(range(size.endpoints // PER_HOST), _HOSTS):
        start = time.perf_counter()
        slice_ = compiled.slice_for(f"h{host}", 1)
        took.append(time.perf_counter() - start)
        mib.append(len(encode_slice(slice_)) / 2**20)
        peers = max(peers, sum(map(len, slice_.tables.values())))
    return tuple(took), tuple(mib), peers
