"""`hostward`: the commands. Each asks a controller, or works offline; nothing is decided here.

Exit status: 0 done, 1 failed or refused, 2 wrong usage, 3 with --detailed-exitcode when there are changes. Heavy modules
are imported by the command that needs them, so that `hostward --help` and completion answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hostward.cli import access
from hostward.cli.alerts import alerts
from hostward.cli.attest import app as attest_app
from hostward.cli.client import Client, read_files, read_sources
from hostward.cli.durations import parse_duration_s, parse_since
from hostward.cli.endpoints import wide_rows
from hostward.cli.inspect import inspect
from hostward.cli.learn import learn
from hostward.cli.output import Format, Kind, message, show, show_one, show_stream
from hostward.cli.policy import app as policy_app
from hostward.errors import HostwardError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
endpoint_app = typer.Typer(no_args_is_help=True, help="Attach, label and release workloads.")
host_app = typer.Typer(no_args_is_help=True, help="Hosts and their enrolment.")
controller_app = typer.Typer()
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks.")
app.add_typer(policy_app, name="policy")
app.add_typer(attest_app, name="attest")
app.add_typer(endpoint_app, name="endpoint")
app.add_typer(host_app, name="host")
app.add_typer(bench_app, name="bench")
app.add_typer(controller_app, name="controller")
app.add_typer(access.access_app, name="access")
app.add_typer(access.audit_app, name="audit")
for _command in (access.login, access.logout, access.whoami):
    app.command()(_command)

_LAB_HELP = "A datacenter on this machine, from a YAML file."

Server = Annotated[str, typer.Option(help="The controller: unix:///run/hostward/api.sock or https://HOST:PORT.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")]
Within = Annotated[str, typer.Option(help="How far back flows that were seen are looked at, e.g. 1h or 30m.")]
AllowFailing = Annotated[
    bool, typer.Option("--allow-failing", help="Commit although assertions fail; history records which, and who.")
]
Files = Annotated[list[Path], typer.Option("--file", "-f", help="A policy file, or a folder of *.yaml.")]
# `-f *.yaml` is `-f` and its value, and the other files.
More = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More of them.", show_default=False)]

ControllerFile = Annotated[Path | None, typer.Option("--config", help="TOML; see docs/reference/configuration.md")]
ControllerState = Annotated[Path | None, typer.Option("--state", help="The state folder, in place of --config.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("hostward"))
        raise typer.Exit


@app.callback()
def everything(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Datacenter network security on attested end hosts.

    Example: hostward up --policy examples/three-tier
    """


def _report(rollout: dict[str, object], form: Format) -> None:
    """Say where a committed revision stands, and fail if a host did not take it."""
    if form is Format.JSON:
        print(json.dumps(rollout, indent=2))
    hosts = rollout["hosts"]
    assert isinstance(hosts, list)
    worst = max((host["enforced_ms"] for host in hosts), default=0)
    enforced = sum(host["state"] == "enforced" for host in hosts)
    message(f"revision {rollout['revision']} is enforced on {enforced} of {len(hosts)} hosts, {worst:.1f} ms")
    for host in hosts:
        if host["state"] != "enforced":
            message(f"  {host['host']}: {host['state']} {host['detail']}")
    if any(host["state"] == "refused" for host in hosts):
        raise typer.Exit(1)


@app.command()
def apply(
    file: Files,
    more: More = None,
    confirm_within: Annotated[str, typer.Option(help="Roll back unless confirmed in this time, e.g. 90s or 5m.")] = "",
    planned: Annotated[int, typer.Option(help="Only if this revision is still the newest.")] = 0,
    no_breaking: Annotated[
        bool, typer.Option("--no-breaking", help="Only if no flow that was seen passing would be denied.")
    ] = False,
    observed_within: Within = "1h",
    allow_failing: AllowFailing = False,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Replace the tenants that the files name, everywhere, at once."""
    body = {
        "sources": read_sources([*file, *(more or ())]),
        "confirm_within_s": parse_duration_s(confirm_within) if confirm_within else 0.0,
        "planned": planned,
        "allow_failing": allow_failing,
        "no_breaking": no_breaking,
        "observed_within_s": parse_duration_s(observed_within),
    }
    _report(Client(server).call("POST", "/v1/apply", body), output)


@app.command()
def plan(
    file: Files,
    more: More = None,
    detailed_exitcode: Annotated[bool, typer.Option(help="Exit with 3 when there are changes.")] = False,
    observed_within: Within = "1h",
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Show what applying would change."""
    body = {"sources": read_sources([*file, *(more or ())]), "observed_within_s": parse_duration_s(observed_within)}
    answer = Client(server).call("POST", "/v1/plan", body)
    if output in (Format.JSON, Format.YAML):
        show_one(answer, output)
    else:
        _print_plan(answer)
    if detailed_exitcode and answer["changes"]:
        raise typer.Exit(3)


def _print_plan(answer: dict[str, Any]) -> None:
    """Flows first: they are what a change is about. The text comes last."""
    from hostward.cli.plan_text import coverage, now_utc, plan_lines

    if answer["flows"] is None:
        message("too many groups and rules to show flows; the rules that change:")
    now = now_utc()
    for line in plan_lines(answer, now):
        print(line)
    for line in coverage(answer["observed"], now):
        message(line)
    flows = "" if answer["flows"] is None else f"{len(answer['flows'])} flows and "
    message(f"{flows}{len(answer['changes'])} names change from revision {answer['revision']}")
    if answer["changes"]:
        message(f"`hostward apply --planned {answer['revision']}` makes this change, and no other")


@app.command()
def confirm(server: Server = "") -> None:
    """Keep a change that was applied with --confirm-within."""
    Client(server).call("POST", "/v1/confirm")
    message("confirmed")


@app.command()
def rollback(
    revision: int, allow_failing: AllowFailing = False, server: Server = "", output: Output = Format.TABLE
) -> None:
    """Commit the policy of an earlier revision again."""
    _report(Client(server).call("POST", f"/v1/rollback/{revision}{_allowing(allow_failing)}"), output)


def _allowing(failing: bool) -> str:
    return "?allow_failing=true" if failing else ""


@app.command()
def delete(
    kind: str,
    name: str,
    allow_failing: AllowFailing = False,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Delete a tenant's policy: `hostward delete tenant acme`."""
    if kind != "tenant":
        raise UsageError(
            "only a tenant can be deleted", subject=kind, hint="`hostward endpoint remove` releases a workload"
        )
    _report(Client(server).call("DELETE", f"/v1/tenants/{name}{_allowing(allow_failing)}"), output)


@app.command()
def explain(
    source: Annotated[str, typer.Option("--from", help="Endpoint, group, tenant/name, internet, or IP address.")],
    destination: Annotated[str, typer.Option("--to", help="The same.")],
    port: Annotated[str, typer.Option(help="e.g. tcp/443, icmp/echo-request")],
    expect: Annotated[
        Literal["allow", "deny", "would-deny", "mixed"] | None,
        typer.Option(help="Exit with 1 if the verdict is another."),
    ] = None,
    process: Annotated[str, typer.Option(help="The executable that opens the connection.")] = "",
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="Ask these files, offline.")] = None,
    more: More = None,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Say whether a flow is allowed, which rules decided, and which lost."""
    if more and not file:
        raise UsageError("only files to be asked are named so", subject=str(more[0]), hint="write -f before them")
    if file:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from hostward.policy import explain as explain_offline
        from hostward.policy import parse_sources

        policies = parse_sources(read_files([*file, *(more or ())]))
        answer = asdict(explain_offline(policies, [], source, destination, port, datetime.now(UTC), process=process))
    else:
        question = {"source": source, "destination": destination, "port": port, "process": process}
        answer = Client(server).call("POST", "/v1/explain", question)
    if output in (Format.JSON, Format.YAML):
        show_one(answer, output)
    else:
        mixed = "it depends, see the cases" if answer["cases"] else ""
        print(f"{answer['verdict']}: {answer['text'] or answer['rule'] or mixed}")
        if answer["rules"]:
            print(f"  by {', '.join(answer['rules'])} ({answer['tier']})")
        for limit in answer["limits"]:
            print(f"  at most {limit['limit']} for each {limit['end']} endpoint, by {limit['rule']}")
        for lost in answer["lost"]:
            print(f"  lost: {lost['rule']}: {lost['text']}\n        {lost['why']}")
        for case in answer["cases"]:
            print("  case: " + ", ".join(f"{key} {value}" for key, value in case.items() if value))
    if expect and answer["verdict"] != expect:
        message(f"expected {expect}, and it is {answer['verdict']}")
        raise typer.Exit(1)


@app.command()
def get(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """List objects."""
    rows = Client(server).call("GET", f"/v1/objects/{kind.value}")
    if kind is Kind.ENDPOINTS and output is Format.WIDE:
        rows = wide_rows(rows)
    show(rows, output, kind.value)


@endpoint_app.command("add")
def endpoint_add(
    name: str,
    tenant: Annotated[str, typer.Option()],
    device: Annotated[str, typer.Option(help="The host's side of the port: a veth or a tap.")],
    label: Annotated[list[str] | None, typer.Option(help="key=value")] = None,
    netns: Annotated[str, typer.Option(help="The device's network namespace on the host.")] = "",
    mac: Annotated[str, typer.Option(help="The workload's MAC; read from a veth's other side if left out.")] = "",
    ip: Annotated[list[str] | None, typer.Option(help="An address; read from a veth's other side if left out.")] = None,
    host: Annotated[str, typer.Option(help="The host that carries it, where there are several.")] = "",
    network: Annotated[str, typer.Option()] = "default",
    flows: Annotated[int | None, typer.Option(help="Flows it may have at once.")] = None,
    rate: Annotated[
        list[str] | None, typer.Option(help="What it may send, be sent or open: 1Gbit/s, 500conn/s")
    ] = None,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Attach a workload. Its port is closed before anything else, and opens when its first revision is enforced."""
    body = {
        "tenant": tenant,
        "name": name,
        "labels": _labels(label or []),
        "device": device,
        "netns": netns,
        "mac": mac,
        "addresses": ip or [],
        "host": host,
        "network": network,
        "flows": flows,
        "rates": rate or [],
    }
    answer = Client(server).call("POST", "/v1/endpoints", body)
    _report(answer, output)
    message(f"{answer['endpoint']} is {answer['state']}")
    if answer["state"] != "enforced":
        raise typer.Exit(1)


@endpoint_app.command("remove")
def endpoint_remove(name: str, server: Server = "", output: Output = Format.TABLE) -> None:
    """Release a workload; its port stays closed."""
    _report(Client(server).call("DELETE", f"/v1/endpoints/{name}"), output)


@endpoint_app.command("bound")
def endpoint_bound(
    name: str,
    rate: Annotated[list[str] | None, typer.Argument(help="1Gbit/s, 200kpkt/s, 5000conn/s; none: the defaults")] = None,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Bound what a workload may send, be sent and open in a second, whatever its rules."""
    _report(Client(server).call("PUT", f"/v1/endpoints/{name}/bounds", {"rates": rate or []}), output)


@endpoint_app.command("quarantine")
def endpoint_quarantine(
    name: str,
    reason: Annotated[str, typer.Option(help="Why: `get endpoints` and history show it.")] = "",
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Let nothing of a workload pass, in either direction, open connections included, until it is released."""
    _report(Client(server).call("PUT", f"/v1/endpoints/{name}/quarantine", {"reason": reason}), output)


@endpoint_app.command("release")
def endpoint_release(name: str, server: Server = "", output: Output = Format.TABLE) -> None:
    """End a workload's quarantine or throttle, whatever brought it about."""
    _report(Client(server).call("DELETE", f"/v1/endpoints/{name}/quarantine"), output)


@endpoint_app.command("label")
def endpoint_label(name: str, label: list[str], server: Server = "", output: Output = Format.TABLE) -> None:
    """Change labels: `hostward endpoint label acme/web-1 role=app env-`."""
    changes: dict[str, str | None] = {text[:-1]: None for text in label if text.endswith("-") and "=" not in text}
    changes.update(_labels([text for text in label if not (text.endswith("-") and "=" not in text)]))
    _report(Client(server).call("PATCH", f"/v1/endpoints/{name}", {"labels": changes}), output)


def _labels(texts: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise UsageError("a label is key=value", subject=text)
        labels[key] = value
    return labels


@host_app.command("token")
def host_token(
    host: Annotated[str, typer.Argument(help="Bind the token to this host name.")] = "",
    life: Annotated[str, typer.Option(help="How long it may be used, e.g. 10m or 1h.")] = "1h",
    server: Server = "",
) -> None:
    """Make a join token: it works once, and is not shown again."""
    print(Client(server).call("POST", "/v1/tokens", {"host": host, "life_s": parse_duration_s(life)})["token"])


@host_app.command("join")
def host_join(
    controller: Annotated[str, typer.Argument(help="HOST:PORT of the controller's enrolment port.")],
    token: Annotated[str, typer.Option(help="The token, or @FILE.")],
    name: Annotated[str, typer.Option(help="This host's name; the machine's if left out.")] = "",
    state: Annotated[Path, typer.Option(help="Where the identity is kept.")] = Path("/var/lib/hostward/agent"),
) -> None:
    """Enrol this host: exchange a token for a certificate."""
    from hostward.cli.daemons import join_host

    text = Path(token[1:]).read_text().strip() if token.startswith("@") else token
    join_host(controller, text, name, state)


def _move(name: str, state: str, server: str, form: Format) -> None:
    _report(Client(server).call("POST", f"/v1/hosts/{name}/{state}"), form)


@host_app.command("admit")
def host_admit(name: str, server: Server = "", output: Output = Format.TABLE) -> None:
    """Let a quarantined host take part again."""
    _move(name, "admitted", server, output)


@host_app.command("quarantine")
def host_quarantine(name: str, server: Server = "", output: Output = Format.TABLE) -> None:
    """Close a host's channel and take its endpoints out of all others' policy."""
    _move(name, "quarantined", server, output)


@host_app.command("evict")
def host_evict(name: str, server: Server = "", output: Output = Format.TABLE) -> None:
    """Like quarantine, and its certificates end: it has to join again."""
    _move(name, "evicted", server, output)


@app.command()
def observe(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new flows.")] = False,
    samples: Annotated[
        bool, typer.Option("--samples", help="Show sampled packets, and what they estimate of each endpoint.")
    ] = False,
    source: Annotated[str, typer.Option("--from", help="Endpoint, address, or internet.")] = "",
    destination: Annotated[str, typer.Option("--to", help="The same.")] = "",
    verdict: Annotated[
        Literal["allow", "deny", "would-deny", "invalid"] | None, typer.Option(help="Only flows with this verdict.")
    ] = None,
    since: Annotated[str, typer.Option(help="RFC 3339 time, or e.g. 90s, 10m, 2h ago")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=65_536)] = 1_000,
    server: Server = "",
    output: Output = Format.TABLE,
) -> None:
    """Show flows: who spoke to whom, and which rule of which revision decided."""
    from hostward.cli.flows import flow_line
    from hostward.cli.samples import sample_line

    parameters = {
        "source": source,
        "destination": destination,
        "verdict": verdict or "",
        "follow": "true" if follow else "false",
        "limit": str(limit),
    }
    if since:
        parameters["since"] = parse_since(since)
    if samples:
        parameters["limit"] = str(min(limit, 32_768))
    flows = (json.loads(line) for line in Client(server).lines("/v1/samples" if samples else "/v1/flows", parameters))
    try:
        if output in (Format.JSON, Format.YAML) and not follow:
            show(list(flows), output)
        else:
            show_stream(flows, output, sample_line if samples else flow_line)
    except KeyboardInterrupt:
        return


app.command()(alerts)
app.command()(inspect)
app.command()(learn)


@app.command()
def up(
    policy: Annotated[list[Path] | None, typer.Option(help="Policy files or folders to apply at start.")] = None,
    state: Annotated[Path, typer.Option(help="Where controller and agent keep their state.")] = Path(
        "/var/lib/hostward"
    ),
    socket: Annotated[Path, typer.Option(help="Where the API listens.")] = Path("/run/hostward/api.sock"),
    pins: Annotated[Path, typer.Option(help="A folder in bpffs for what outlives this process.")] = Path(
        "/sys/fs/bpf/hostward"
    ),
    name: Annotated[str, typer.Option(help="This host's name; the machine's if left out.")] = "",
    metrics: Annotated[str, typer.Option(help="Serve Prometheus metrics here, e.g. 127.0.0.1:9465.")] = "",
    sflow: Annotated[str, typer.Option(help="Send samples to this sFlow collector, e.g. 127.0.0.1:6343.")] = "",
    ipfix: Annotated[str, typer.Option(help="Send flow records to this IPFIX collector, e.g. 127.0.0.1:4739.")] = "",
    json_lines: Annotated[
        Path | None, typer.Option(help="Write flow records to this file, a line of JSON each.")
    ] = None,
    more: More = None,
) -> None:
    """Controller and agent for this machine, in one process."""
    from hostward.cli.configuration import ExportConfig
    from hostward.cli.daemons import run_up

    export = ExportConfig(sflow=sflow, ipfix=ipfix, json_lines=json_lines)
    run_up([*(policy or ()), *(more or ())], state, socket, pins, name, metrics, export)


@controller_app.callback(invoke_without_command=True)
def controller(context: typer.Context, config: ControllerFile = None) -> None:
    """Run a controller; back its state up, and bring it back."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise UsageError("a controller needs its configuration", hint="hostward controller --config FILE")
    from hostward.cli.daemons import run_controller

    run_controller(config)


@controller_app.command("backup")
def controller_backup(file: Path, config: ControllerFile = None, state: ControllerState = None) -> None:
    """Write the database and the CA to one file, while the controller runs or not. Whoever has it can be the controller."""
    from hostward.cli.recovery import back_up_controller

    back_up_controller(file, config, state)


@controller_app.command("grant-key")
def controller_grant_key(config: ControllerFile = None, state: ControllerState = None) -> None:
    """Print the public key by which gates know this controller's grants; it is made if there is none yet."""
    from hostward.cli.recovery import show_grant_key

    show_grant_key(config, state)


@controller_app.command("restore")
def controller_restore(
    file: Path,
    config: ControllerFile = None,
    state: ControllerState = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the state that is there.")] = False,
    revision_at_least: Annotated[
        int,
        typer.Option(min=0, help="Larger than every revision that a host enforces, where the usual gap is too small."),
    ] = 0,
) -> None:
    """Bring a backup back, as a new revision that every host takes. The controller must not run."""
    from hostward.cli.recovery import restore_controller

    restore_controller(file, config, state, force=force, revision_at_least=revision_at_least)


@app.command()
def agent(config: Annotated[Path, typer.Option(help="TOML; see docs/reference/configuration.md")]) -> None:
    """Run a host's agent."""
    from hostward.cli.daemons import run_agent

    run_agent(config)


@app.command()
def gate(
    config: Annotated[Path, typer.Option(help="TOML; see docs/reference/configuration.md")],
    identity: Annotated[
        bool, typer.Option("--identity", help="Show the fingerprint of the gate's key, and end.")
    ] = False,
) -> None:
    """Run a gate: what the trusted NIC runs. Every port is closed until grant and pulse are there."""
    from hostward.cli.gates import run_gate, show_identity

    show_identity(config) if identity else run_gate(config)


@app.command()
def sentinel(config: Annotated[Path, typer.Option(help="TOML; see docs/reference/configuration.md")]) -> None:
    """Run a host's sentinel: it keeps the gate's pulse while the kernel enforces what was attested."""
    from hostward.cli.gates import run_sentinel

    run_sentinel(config)


@app.command()
def preflight(output: Output = Format.TABLE) -> None:
    """What this machine offers and lacks, and what to do about it."""
    from hostward.cli.preflight import examine

    findings = examine()
    show(findings, output)
    if any(finding["state"] == "missing" for finding in findings):
        raise typer.Exit(1)


@bench_app.callback()
def bench_group() -> None:
    """Benchmarks."""


@bench_app.command("datapath")
def bench_datapath(quick: Annotated[bool, typer.Option(help="Fewer rows and runs.")] = False) -> None:
    """Nanoseconds per packet of the datapath's programs, as JSON."""
    from hostward.datapath.bench import run

    print(json.dumps(run(quick=quick, progress=message), indent=2))


def _mount_lab() -> None:
    """The lab is half of all the code there is: it is imported where its own commands are asked for, or completed.

    Elsewhere an empty group of its name stands in, so that `hostward --help` lists it.
    """
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if words[:1] == ["lab"] or "_HOSTWARD_COMPLETE" in os.environ:
        from hostward.lab.cli import app as lab_app
    else:
        lab_app = typer.Typer(help=_LAB_HELP)
        lab_app.callback()(lambda: None)
    app.add_typer(lab_app, name="lab", help=_LAB_HELP)


def main() -> None:
    """The entry point: turns errors into text and an exit status, and never shows a traceback."""
    try:
        _mount_lab()
        app()
    except HostwardError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("HOSTWARD_DEBUG"):
            raise
        print(f"error: hostward failed: {type(error).__name__}: {error}", file=sys.stderr)
        print("  run it again with HOSTWARD_DEBUG=1 for the whole story", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
