"""What was measured, for people and for programs: rows, ratios, targets met or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.cases import UNPROTECTED, Case, Filter
from bench.network import CASES, MEASUREMENTS, RULES, NetworkResult
from bench.summary import Ratio, Summary, compare, per_round, summarize
from bench.workloads import Kind, Measurement

STREAM_TARGET = 0.95
_NFTABLES = (Filter.NFTABLES_RULES, Filter.NFTABLES_SETS)


@dataclass(frozen=True, slots=True)
class Row:
    """Hostward with one size of policy in one measurement, beside the others."""

    measurement: Measurement
    rules: int
    summaries: dict[Filter, Summary]
    ratios: dict[Filter, Ratio]  # Hostward over each other

    @property
    def stream_target_met(self) -> bool | None:
        """Whether the stream is as fast as it should be beside nothing; None where there is no such target."""
        if self.measurement.kind is not Kind.STREAM:
            return None
        return self.ratios[Filter.NONE].paired >= STREAM_TARGET

    @property
    def ahead_of_nftables(self) -> bool:
        """Whether Hostward is ahead of both forms of nftables."""
        return all(self.ratios[other].paired > 1 for other in _NFTABLES)


def rows_of(result: NetworkResult) -> list[Row]:
    """Every measurement with every size of policy; the unprotected samples serve both."""
    rows = []
    for measurement in MEASUREMENTS:
        for rules in RULES:
            samples = {
                kind: result.samples[measurement, UNPROTECTED if kind is Filter.NONE else Case(kind, rules)]
                for kind in Filter
            }
            ours = samples[Filter.HOSTWARD]
            rows.append(
                Row(
                    measurement,
                    rules,
                    {kind: summarize(values) for kind, values in samples.items()},
                    {kind: compare(ours, values) for kind, values in samples.items() if kind is not Filter.HOSTWARD},
                )
            )
    return rows


def as_json(result: NetworkResult) -> dict[str, object]:
    """The network part of a result file."""
    return {
        "rounds": result.rounds,
        "seconds": result.seconds,
        "cases": [case.name for case in CASES],
        "rows": [
            {
                "measurement": row.measurement.kind.value,
                "family": row.measurement.family,
                "rules": row.rules,
                "unit": row.measurement.kind.unit,
                "figures": {kind.value: asdict(summary) for kind, summary in row.summaries.items()},
                "hostward_over": {kind.value: asdict(ratio) for kind, ratio in row.ratios.items()},
                "stream_target_met": row.stream_target_met,
                "ahead_of_nftables": row.ahead_of_nftables,
            }
            for row in rows_of(result)
        ],
        "evidence": {case.name: asdict(evidence) for case, evidence in result.evidence.items()},
        "samples": [
            {
                "measurement": measurement.kind.value,
                "family": measurement.family,
                "case": case.name,
                "per_round": [round(rate, 1) for rate in per_round(turns)],
            }
            for (measurement, case), turns in result.samples.items()
        ],
    }


def table(result: NetworkResult) -> list[str]:
    """The figures as a table: medians, Hostward's spread over rounds, its paired ratio to each other, and targets."""
    head = (
        "measurement",
        "rules",
        *(kind.value for kind in Filter),
        "spread",
        "/unprot.",
        "/nft-rules",
        "/nft-sets",
        "",
    )
    lines: list[Sequence[str]] = [head]
    for row in rows_of(result):
        ours = row.summaries[Filter.HOSTWARD]
        spread = (ours.upper_quartile - ours.lower_quartile) / ours.median
        verdicts = [] if row.stream_target_met is not False else [f"MISSED: stream under {STREAM_TARGET:.0%}"]
        verdicts += [] if row.ahead_of_nftables else ["MISSED: nftables is ahead"]
        lines.append(
            (
                f"{row.measurement.kind.value} IPv{row.measurement.family}",
                f"{row.rules:,}",
                *(_figure(row.measurement.kind, row.summaries[kind].median) for kind in Filter),
                f"{spread:.0%}",
                *(f"{row.ratios[kind].paired:.3f}" for kind in (Filter.NONE, *_NFTABLES)),
                "; ".join(verdicts) or "met",
            )
        )
    left = (0, len(head) - 1)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def verdict(result: NetworkResult) -> str:
    """The targets, and in how many rows they were met."""
    rows = rows_of(result)
    streams = [row.stream_target_met for row in rows if row.stream_target_met is not None]
    ahead = [row.ahead_of_nftables for row in rows]
    return (
        f"targets: stream at {STREAM_TARGET:.0%} of unprotected: {sum(streams)} of {len(streams)} rows; "
        f"ahead of nftables: {sum(ahead)} of {len(ahead)} rows"
    )


def _figure(kind: Kind, value: float) -> str:
    return f"{value / 1e9:.2f} GB/s" if kind is Kind.STREAM else f"{value:,.0f}/s"
