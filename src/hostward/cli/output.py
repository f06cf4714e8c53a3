"""How answers look: data on stdout, messages on stderr, one place for tables and exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class Kind(StrEnum):
    """What `hostward get` lists."""

    TENANTS = "tenants"
    GROUPS = "groups"
    IDENTITIES = "identities"
    ENDPOINTS = "endpoints"
    HOSTS = "hosts"
    RULES = "rules"
    REVISIONS = "revisions"


# Columns of a table by kind; `wide` shows every field.
_COLUMNS = {
    "tenants": ("name", "mode", "rules", "endpoints"),
    "groups": ("tenant", "name", "text", "members"),
    "identities": ("id", "tenant", "region", "groups", "prefixes"),
    "endpoints": ("id", "host", "state", "addresses", "labels", "flows", "reason"),
    "hosts": ("name", "state", "connected", "revision", "repairs", "refused"),
    "rules": ("id", "state", "text"),
    "revisions": ("revision", "time", "author", "summary"),
    "attestation": ("name", "state", "evidence", "measured", "boot", "network", "renews", "against"),
    "audit": (
        "name",
        "time",
        "who",
        "action",
        "objects",
        "summary",
        "result",
        "count",
        "revision_before",
        "revision_after",
    ),
}


def message(text: str) -> None:
    """Say something that is no data."""
    print(text, file=sys.stderr)


def show(rows: Sequence[Mapping[str, object]], form: Format, kind: str = "") -> None:
    """Print a list of objects."""
    if form is Format.JSON:
        print(json.dumps(rows, indent=2))
    elif form is Format.YAML:
        _yaml(rows)
    else:
        columns = _COLUMNS.get(kind) if form is Format.TABLE else None
        _table(rows, columns or tuple(rows[0]) if rows else ())


def show_stream(values: Iterable[Mapping[str, Any]], form: Format, line: Callable[[Mapping[str, Any]], str]) -> None:
    """Print objects as they come: JSON one a line, YAML one a document, else what ``line`` makes of each."""
    for value in values:
        if form is Format.YAML:
            print("---")
            _yaml(value)
        else:
            print(json.dumps(value) if form is Format.JSON else line(value), flush=True)
        sys.stdout.flush()


def show_one(value: Mapping[str, object], form: Format) -> None:
    """Print one object."""
    if form is Format.JSON:
        print(json.dumps(value, indent=2))
    elif form is Format.YAML:
        _yaml(value)
    else:
        for key, item in value.items():
            if item not in ("", [], (), {}, None):
                print(f"{key}: {_cell(item)}")


def _yaml(value: object) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(json.loads(json.dumps(value)), sys.stdout)


def _table(rows: Sequence[Mapping[str, object]], columns: tuple[str, ...]) -> None:
    if not rows:
        message("(none)")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    console = Console(file=sys.stdout)
    if not sys.stdout.isatty():
        console = Console(file=sys.stdout, width=200)
    console.print(table, markup=False)


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(_cell(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
