"""`make bench`: measures, prints a table and writes bench/results/NAME.json."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import (
    attest,
    compiler,
    cut,
    environment,
    export,
    fleet,
    fleet_report,
    gate,
    http_capture,
    inspection,
    network,
    report,
    revocation,
    rollout,
)
from hostward.errors import HostwardError

RESULTS = Path(__file__).parent / "results"
_LEAST_ROUNDS = 2  # a quartile of fewer means nothing
_FIRST_IN_LINE = -20
_MOST_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status says whether it could be measured, not whether targets were met."""
    options = _parser().parse_args(arguments)
    # `kill` gets the same clean-up as Ctrl-C; a shell's background jobs start with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if os.geteuid() != 0:
        print("the benchmark makes network namespaces and loads eBPF: run it as root", file=sys.stderr)
        return 1
    try:
        result = _measure(options)
    except HostwardError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind and no result was written", file=sys.stderr)
        return 130
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    _say(f"written to {path}")
    return 0


def _measure(options: argparse.Namespace) -> dict[str, object]:
    facts = {**environment.facts(), "offloads": environment.offloads(), "load_before": environment.load()}
    result: dict[str, object] = {"environment": facts}
    if options.only in (None, "datapath"):
        from hostward.datapath import bench as datapath

        _say("datapath: nanoseconds for one verdict")
        result["datapath"] = datapath.run(progress=_say)
    if options.only in (None, "network"):
        # Whoever else runs gets what is left of the processor; programs that are started inherit this.
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST_IN_LINE)
        _say(f"network: {options.rounds} rounds, {options.seconds:g} s of each case in each")
        measured = network.run(options.rounds, options.seconds, _say)
        result["network"] = report.as_json(measured)
        print("\n".join([*report.table(measured), report.verdict(measured)]))
    rounds = f"{options.rounds} rounds"
    for name, about, part, run in (
        ("rollout", f"{options.changes} changes on three hosts", rollout, lambda: rollout.run(options.changes, _say)),
        (
            "revocation",
            f"{options.cuts} times {revocation.STREAMS:,} live streams",
            revocation,
            lambda: revocation.run(options.cuts, _say),
        ),
        ("compiler", f"{rounds} of two sizes", compiler, lambda: compiler.run(options.rounds, _say)),
        ("attest", rounds, attest, lambda: attest.run(options.rounds, _say)),
        ("cut", f"{rounds} in a lab whose hosts attest", cut, lambda: cut.run(options.rounds, _say)),
        (
            "gate",
            f"{rounds}, {options.seconds:g} s of each hook in each",
            gate,
            lambda: gate.run(options.rounds, options.seconds, _say),
        ),
        ("export", f"{options.export_seconds:g} s", export, lambda: export.run(options.export_seconds, _say)),
        (
            "inspect",
            f"{options.http_connections:,} connections of HTTP, then {options.rounds} rounds of a stream",
            inspection,
            lambda: inspection.run(options.rounds, options.seconds, options.http_connections, _say),
        ),
        (
            "fleet",
            f"{options.hosts} hosts",
            fleet_report,
            lambda: fleet.run(options.hosts, options.fleet_seconds, _say),
        ),
    ):
        if options.only in (None, name):
            _say(f"{name}: {about}")
            found: Any = run()
            shown: Any = part
            result[name] = shown.as_json(found)
            print("\n".join(shown.table(found)))
    facts["load_after"] = environment.load()
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parts = (
        "network",
        "datapath",
        "rollout",
        "revocation",
        "compiler",
        "attest",
        "cut",
        "gate",
        "export",
        "inspect",
        "fleet",
    )
    parser.add_argument("--only", choices=parts, help="leave the others out")
    parser.add_argument("--rounds", type=_rounds, default=11, help="alternating rounds (default 11)")
    parser.add_argument("--seconds", type=_seconds, default=1.0, help="a round's period of each case (default 1)")
    parser.add_argument("--changes", type=_rounds, default=300, help="of policy, for the rollout (default 300)")
    parser.add_argument("--cuts", type=_rounds, default=5, help="of 10,000 streams, for the revocation (default 5)")
    parser.add_argument("--hosts", type=_hosts, default=2_000, help="that attest, for the fleet (default 2000)")
    parser.add_argument(
        "--fleet-seconds", type=_fleet_seconds, default=60.0, help="of calm and of flood, for the fleet (default 60)"
    )
    parser.add_argument(
        "--export-seconds", type=_fleet_seconds, default=5.0, help="of new flows, for the flow records (default 5)"
    )
    parser.add_argument(
        "--http-connections", type=_connections, default=http_capture.CONNECTIONS, help="to inspect (default 20,000)"
    )
    parser.add_argument("--name", type=_result_name, default="latest", help="of the result file (default latest)")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not network.SLICE_S <= seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not between {network.SLICE_S} and {_MOST_SECONDS}")
    return seconds


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < _LEAST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {_LEAST_ROUNDS}")
    return int(text)


def _connections(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 1 and 1,000,000")
    return int(text)


def _hosts(text: str) -> int:
    if not text.isdecimal() or not 100 <= int(text) <= fleet_report.LARGE:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 100 and {fleet_report.LARGE}")
    return int(text)


def _fleet_seconds(text: str) -> float:
    seconds = float(text)
    if not 5 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 5 and 600")
    return seconds


def _result_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no plain file name")
    return text


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
