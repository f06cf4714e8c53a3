"""`hostward policy`: files checked, formatted and described, offline. Nothing here speaks to a controller."""

from __future__ import annotations

import os
import sys
import tempfile
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostward.cli.client import read_files
from hostward.cli.output import Format, message, show_one
from hostward.errors import HostwardError, PolicyError, UsageError

if TYPE_CHECKING:
    from hostward.policy.findings import Finding
    from hostward.policy.syntax import Place

app = typer.Typer(no_args_is_help=True, help="Work with policy files, offline.")

_STDIN = Path("-")


@app.command()
def check(
    path: Annotated[list[Path], typer.Argument(help="Policy files, or folders of *.yaml.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is a warning, too.")] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")] = Format.TABLE,
) -> None:
    """Validate files, prove their assertions and look for what is probably not meant, offline."""
    from datetime import UTC, datetime

    from hostward.policy import Severity, lint, parse_sources, unsupported
    from hostward.policy import check as prove

    policies = parse_sources(read_files(path))
    for problem in unsupported(policies):
        message(f"{problem}  (it parses; `apply` refuses it)")
    now = datetime.now(UTC)
    results = prove(policies, [], now)
    findings = lint(policies, [], now)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    assertions = [
        {
            "name": result.assertion.text,
            "state": "holds" if result.holds else "fails",
            "place": _place(result.assertion.place),
            "counter_example": result.counter_example,
        }
        for result in results
    ]
    if output in (Format.JSON, Format.YAML):
        show_one({"assertions": assertions, "warnings": [_warning(finding) for finding in findings]}, output)
    else:
        for row in assertions:
            print(f"{'holds' if row['state'] == 'holds' else 'FAILS'}  {row['name']}")
            if row["counter_example"]:
                print(f"       {row['counter_example']}")
        for finding in findings:
            about = f"{finding.rule}: " if finding.rule else ""
            where = f"{_place(finding.place)}: " if finding.place.line else ""
            print(f"{finding.severity.value}  {where}{about}{finding.what} [{finding.code}]\n         {finding.hint}")
    message(f"{len(policies.tenants)} tenants, {len(results)} assertions, {warnings} warnings")
    if not all(result.holds for result in results) or (strict and warnings):
        raise typer.Exit(1)


def _warning(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "policy": finding.policy,
        "rule": finding.rule,
        "place": _place(finding.place) if finding.place.line else "",
        "what": finding.what,
        "hint": finding.hint,
        "others": list(finding.others),
    }


def _place(place: Place) -> str:
    return f"{place.file}:{place.line}:{place.column}"


@app.command()
def fmt(
    path: Annotated[list[Path], typer.Argument(help="Policy files, folders of *.yaml, or - for standard input.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 and name what would change.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; show what would change.")] = False,
) -> None:
    """Write policy files in their canonical form. Comments stay; what a policy means never changes."""
    from hostward.policy.formatting import format_policy

    if _STDIN in path:
        if len(path) > 1:
            raise UsageError("standard input stands alone", subject="-", hint="format files with another command")
        sources = [("standard input", sys.stdin.buffer.read())]
    else:
        sources = read_files(path)
    changed: list[tuple[str, bytes, str]] = []
    problems: list[PolicyError] = []
    for file, content in sources:
        try:
            text = format_policy(file, content)
        except PolicyError as error:
            problems.append(error)
            continue
        if text.encode() != content:
            changed.append((file, content, text))
        if path == [_STDIN] and not check and not diff:
            sys.stdout.write(text)
    for file, content, text in changed:
        if diff:
            before = content.decode().splitlines(keepends=True)
            sys.stdout.writelines(unified_diff(before, text.splitlines(keepends=True), file, f"{file} (formatted)"))
        if check:
            message(f"{file} is not in canonical form; `hostward policy fmt {file}` mends it")
        elif not diff and path != [_STDIN]:
            _replace(Path(file), text)
            message(f"formatted {file}")
    if problems:
        raise PolicyError(tuple(problem for error in problems for problem in error.problems))
    if check and changed:
        raise typer.Exit(1)


def _replace(path: Path, text: str) -> None:
    """Replace a file whole or not at all; its mode and owner stay, and a symbolic link goes on pointing to it."""
    target = path.resolve()
    temporary = ""
    try:
        status = target.stat()
        with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise HostwardError(
            f"the file cannot be written: {error.strerror}", subject=str(path), hint="it was left as it is"
        ) from error


@app.command()
def schema() -> None:
    """Print the JSON Schema of policy files, for editors; docs/reference/policy.schema.json is the same."""
    import json

    from hostward.policy.schema import policy_schema

    print(json.dumps(policy_schema(), indent=2))
