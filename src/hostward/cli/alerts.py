"""`hostward alerts`: what guards recognised, as EVE JSON or as lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hostward.cli.client import Client
from hostward.cli.durations import parse_since
from hostward.cli.output import Format, show_stream

Server = Annotated[str, typer.Option(help="The controller: unix:///run/hostward/api.sock or https://HOST:PORT.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")]


def alerts(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new alerts.")] = False,
    since: Annotated[str, typer.Option(help="RFC 3339 time, or e.g. 90s, 10m, 2h ago")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=8_192)] = 1_000,
    server: Server = "",
    output: Output = Format.JSON,
) -> None:
    """Show what inspectors found and which endpoints scan, flood or forge: EVE JSON, one event a line."""
    parameters = {"follow": "true" if follow else "false", "limit": str(limit)}
    if since:
        parameters["since"] = parse_since(since)
    try:
        show_stream((json.loads(line) for line in Client(server).lines("/v1/alerts", parameters)), output, alert_line)
    except KeyboardInterrupt:
        return


def alert_line(alert: Mapping[str, Any]) -> str:
    """One alert as one line: when, where, who, what, and what was done about it."""
    own, what = alert["hostward"], alert["alert"]
    guard = own.get("guard")
    if guard is None:
        ends = " -> ".join(
            f"{alert.get(f'{end}_ip', '')}:{alert.get(f'{end}_port', '')}".rstrip(":") for end in ("src", "dest")
        )
        return (
            f"{str(alert['timestamp'])[11:23]} {own['host']} {own['endpoint']} {what['action']} "
            f"[{what['gid']}:{what['signature_id']}:{what['rev']}] {what['signature']}  {alert.get('proto', '')} {ends}"
        )
    target = alert.get("dest_ip", "")
    port = f":{alert['dest_port']}" if "dest_port" in alert else ""
    return (
        f"{str(alert['timestamp'])[11:23]} {own['host']} {own['endpoint']} {guard['kind']} {guard['response']}  "
        f"{guard['count']} in ten seconds, the last one {target}{port} {alert.get('proto', '')}".rstrip()
    )
