"""`hostward inspect`: the inspector's engine over a capture, offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hostward.cli.inspector_configuration import inspector_program
from hostward.errors import UsageError


def inspect(
    capture: Annotated[Path, typer.Argument(help="A capture, pcap or pcapng.")],
    rules: Annotated[list[Path], typer.Option(help="A file of signatures in Suricata's syntax; may be repeated.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE of the engine, by Suricata's names: stream.midstream=true; may be repeated."
        ),
    ] = None,
) -> None:
    """Find intrusions in a capture: EVE JSON on standard output, one event a line; signatures left out are told."""
    for path in (capture, *rules):
        if not path.is_file():
            raise UsageError("there is no such file", subject=str(path))
    words = [word for path in rules for word in ("--rules", str(path))]
    words += [word for setting in settings or () for word in ("--set", setting)]
    program = inspector_program()
    # The detector is not mapped into this process: it becomes the inspector, which loads no Python.
    os.execv(program, [program.name, "pcap", str(capture), *words])  # noqa: S606
