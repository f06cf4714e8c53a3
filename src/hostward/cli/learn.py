"""`hostward learn`: rules that a policy lacks for the traffic that was seen, as a diff; and rules wider than it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from hostward.cli.client import Client
from hostward.cli.durations import parse_duration_s
from hostward.cli.output import Format, message, show_one
from hostward.cli.plan_text import counted, coverage, duration_text, now_utc
from hostward.errors import UsageError


def learn(
    tenant: Annotated[str, typer.Option(help="Only this tenant; every tenant if left out.")] = "",
    since: Annotated[str, typer.Option(help="How far back flows are looked at, e.g. 1h or 7d.")] = "1h",
    propose_groups: Annotated[
        bool, typer.Option("--propose-groups", help="Make groups for endpoints that are in none.")
    ] = False,
    include_denied: Annotated[
        bool, typer.Option("--include-denied", help="Learn from denied flows too; among them may be attacks.")
    ] = False,
    unused: Annotated[
        bool, typer.Option("--unused", help="Instead: allow rules that are wider than what was seen.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the tenant's new file here; the diff still goes out.")
    ] = None,
    server: Annotated[str, typer.Option(help="The controller's socket, e.g. unix:///run/hostward/api.sock.")] = "",
    output: Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")] = Format.TABLE,
) -> None:
    """Propose rules for flows that were seen: `hostward learn --tenant acme --since 1h`, as a diff for `patch -p1`."""
    if write is not None and (not tenant or unused):
        raise UsageError("a file is one tenant's", subject="--write", hint="name it with --tenant, without --unused")
    parameters: dict[str, str] = {"tenant": tenant, "within_s": str(parse_duration_s(since))}
    if unused:
        _show_unused(Client(server).call("GET", f"/v1/learn/unused?{urlencode(parameters)}"), output)
        return
    parameters["include_denied"] = str(include_denied).lower()
    parameters["propose_groups"] = str(propose_groups).lower()
    answer = Client(server).call("GET", f"/v1/learn?{urlencode(parameters)}")
    if write is not None:
        write.write_text(answer["tenants"][0]["text"])
    if output in (Format.JSON, Format.YAML):
        show_one(answer, output)
        return
    for lesson in answer["tenants"]:
        print(lesson["diff"], end="")
    for line in _messages(answer):
        message(line)


def _messages(answer: Mapping[str, Any]) -> Iterator[str]:
    for lesson in answer["tenants"]:
        proposed, allowed = counted(len(lesson["rules"]), "rule"), counted(lesson["allowed_already"], "observed flow")
        yield f"{lesson['tenant']}: {proposed} proposed; allowed already: {allowed}"
        for note in lesson["notes"]:
            yield f"  {note}"
        if lesson["denied_left_out"]:
            left_out = counted(lesson["denied_left_out"], "denied flow")
            yield f"  left out: {left_out} (--include-denied takes them too)"
    yield from coverage(answer, now_utc())


def _show_unused(answer: Mapping[str, Any], output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        show_one(answer, output)
        return
    for rule in answer["rules"]:
        print(f"{rule['id']}: {rule['text']}\n    {_how_wide(rule)}")
    if answer["short"]:
        window = duration_text(answer["window_s"])
        message(f"a rule that was not used in {window} may be needed next week: look at least at 7 d (--since 7d)")
    for line in coverage(answer, now_utc()):
        message(line)


def _how_wide(rule: Mapping[str, Any]) -> str:
    if not rule["openings"]:
        return "not used"
    parts = [f"used {rule['openings']:,} times, last {rule['last_seen']}"]
    for side, verb in (("sources", "opened"), ("destinations", "were reached")):
        share = rule[side]
        if share is not None and share["talked"] < share["members"]:
            parts.append(f"{share['talked']} of {share['members']} endpoints {verb}")
    if rule["unused_ports"]:
        parts.append(f"nothing on {', '.join(rule['unused_ports'])}")
    return "; ".join(parts)
