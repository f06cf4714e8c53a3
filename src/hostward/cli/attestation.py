"""`hostward attest status`, `explain` and `learn HOST`: what the controller makes of its hosts' evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hostward.cli.client import Client
from hostward.cli.output import Format, message, show, show_one

Server = Annotated[str, typer.Option(help="The controller: unix:///run/hostward/api.sock or https://HOST:PORT.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")]

_MARKS = {"affirming": "good", "warning": "WARN", "contraindicated": "FAIL"}


def status(server: Server = "", output: Output = Format.TABLE) -> None:
    """Show every host with the state of its evidence, its grant, its pulse and its gate."""
    rows = Client(server).call("GET", "/v1/attestation")
    if output in (Format.JSON, Format.YAML):
        show(rows, output)
    else:
        show([{**row, "network": network(row), "renews": renewal(row)} for row in rows], output, "attestation")


def network(row: Mapping[str, Any]) -> str:
    """What a host's gates let through, for people."""
    told = []
    for gate in row["gates"]:
        word = "unknown" if gate["open"] is None else "open" if gate["open"] else "closed"
        why = f" ({gate['why']})" if gate["why"] else ""
        told.append(f"{gate['gate']}/{gate['port']} {word}{why}")
    return "; ".join(told) or "no gate"


def renewal(row: Mapping[str, Any]) -> str:
    """How long both halves of the lease hold yet, as the gates last said."""
    return "; ".join(
        f"grant {gate['grant_left_ms'] / 1e3:.0f} s, pulse {gate['pulse_left_ms'] / 1e3:.1f} s"
        + (f" ({gate['trouble']})" if gate["trouble"] else "")
        for gate in row["gates"]
    )


def explain(
    host: Annotated[str, typer.Argument(help="Its name.")],
    ear: Annotated[bool, typer.Option("--ear", help="Print the result as a signed JWT (EAR) instead.")] = False,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Show what was found about a host: which event, what was expected, and why it matters."""
    if ear:
        print(Client(server).call("GET", f"/v1/attestation/{host}/result")["token"])
        return
    detail = Client(server).call("GET", f"/v1/attestation/{host}")
    if output in (Format.JSON, Format.YAML):
        show_one(detail, output)
        return
    print(f"host {detail['name']}: {detail['state']}, evidence {detail['evidence']}, {detail['measured']}")
    for title in ("host", "boot", "revision", "appraised", "refused"):
        if detail[title]:
            print(f"{'endorsement key' if title == 'host' else title}: {detail[title]}")
    print(f"network: {network(detail)}; {renewal(detail)}")
    order = list(_MARKS)[::-1]
    for finding in sorted(detail["findings"], key=lambda each: order.index(each["tier"])):
        print(f"{_MARKS[finding['tier']]}  {finding['rule']}: {_printable(finding['what'])}")
        if finding["tier"] != "affirming":
            for title in ("where", "expected", "why"):
                if finding[title]:
                    print(f"      {title}: {_printable(finding[title])}")


def reload(server: Server = "") -> None:
    """Let the controller read roots, inventory and reference values anew, and ask every host."""
    answer = Client(server).call("POST", "/v1/attestation/reload")
    message(f"{answer['values']} reference values; every host that is there is asked now")


def release(host: Annotated[str, typer.Argument(help="Its name.")], server: Server = "") -> None:
    """Undo at a host's gates that it was cut off, as `host evict` does; the ports wait for a grant like any other."""
    ports = Client(server).call("POST", f"/v1/attestation/{host}/release")["ports"]
    message(f"released: {', '.join(ports)}" if ports else f"no gate is in front of {host}")


def learn_from_host(host: str, server: str) -> None:
    """Print reference values of a host as it is now."""
    answer = Client(server).call("GET", f"/v1/attestation/{host}/reference")
    print(json.dumps(answer["document"], indent=1))
    message("read it, sign it, and put both files into the controller's trust folder, under reference/")


def _printable(text: str) -> str:
    """Names of files and makers are a host's words."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
