"""Samples and their estimates as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostward.cli.flows import side_text


def sample_line(line: Mapping[str, Any]) -> str:
    """One sample, or the sum of one endpoint's, as one line."""
    return _total(line) if line["kind"] == "total" else _sample(line)


def _sample(sample: Mapping[str, Any]) -> str:
    time = str(sample["time"])[11:23]
    verdict = f"{sample['verdict']}{' (' + sample['reason'] + ')' if sample['reason'] else ''}"
    segments = f" in {sample['segments']} segments" if sample["segments"] else ""
    return (
        f"{time} {sample['host']} {sample['endpoint']} {sample['direction']:<7} {verdict:<22} "
        f"{side_text(sample['src'])} → {side_text(sample['dst'])} {sample['proto']}  "
        f"{' + '.join(sample['rules'])}  {sample['bytes']} B{segments}, 1/{sample['rate']}"
    )


def _total(total: Mapping[str, Any]) -> str:
    rate = f"1/{total['rate']}" if total["rate"] else "not sampled any more"
    parts = [f"{total['host']} {total['endpoint']} {rate}: {_estimate(total)}"]
    parts += [f"{one['direction']} {one['verdict']} {_estimate(one)}" for one in total["classes"]]
    parts.append(f"of {total['pool']} packets {total['taken']} taken, {total['lost']} lost, {total['untold']} untold")
    return "; ".join(parts)


def _estimate(found: Mapping[str, Any]) -> str:
    if not found["samples"]:
        return "no samples"
    return (
        f"{found['packets']} packets ±{found['error_percent']:.1f} %, "
        f"{found['bytes']} B ±{found['bytes_error_percent']:.1f} %"
    )
