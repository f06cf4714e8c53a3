"""`hostward access`, `audit`, `login`, `logout` and `whoami`: who may do what, and who did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from hostward.cli.client import Client
from hostward.cli.durations import parse_duration_s
from hostward.cli.logins import forget, remember
from hostward.cli.output import Format, message, show, show_one
from hostward.errors import UsageError

access_app = typer.Typer(no_args_is_help=True, help="Who may do what: API tokens.")
token_app = typer.Typer(no_args_is_help=True, help="Make and revoke API tokens.")
access_app.add_typer(token_app, name="token")
audit_app = typer.Typer(invoke_without_command=True, help="Who changed what, and what was refused.")

# As many records as the API gives at once.
_PAGE = 1_000

Server = Annotated[str, typer.Option(help="The controller: unix:///run/hostward/api.sock or https://HOST:PORT.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="The form of the answer.")]


@token_app.command("create")
def create(
    name: str,
    role: Annotated[str, typer.Option(help="platform-operator, tenant-editor, tenant-viewer or auditor.")],
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant it is for; may be repeated.")] = None,
    life: Annotated[str, typer.Option(help="How long it counts, e.g. 12h or 30d.")] = "90d",
    server: Server = "",
) -> None:
    """Make an API token: it is shown once, here."""
    body = {"name": name, "role": role, "tenants": tenant or [], "life_s": parse_duration_s(life)}
    print(Client(server).call("POST", "/v1/access/tokens", body)["token"])


@token_app.command("revoke")
def revoke(name: str, server: Server = "") -> None:
    """End a token at once."""
    Client(server).call("DELETE", f"/v1/access/tokens/{quote(name, safe='')}")
    message(f"{name} is revoked")


@access_app.command("list")
def list_tokens(server: Server = "", output: Output = Format.TABLE) -> None:
    """List the API tokens, without their secrets."""
    show(Client(server).call("GET", "/v1/access/tokens"), output)


@audit_app.callback()
def audit(context: typer.Context, server: Server = "", output: Output = Format.TABLE) -> None:
    """Show the audit log, oldest first."""
    if context.invoked_subcommand is None:
        show(list(_records(Client(server))), output, "audit")


def _records(client: Client) -> Iterator[Mapping[str, object]]:
    """The whole log, page by page."""
    after: int | None = 0
    while after is not None:
        page = client.call("GET", f"/v1/audit?after={after}&limit={_PAGE}")
        yield from page["records"]
        after = page["next"]


@audit_app.command("verify")
def verify(
    head: Annotated[str, typer.Option(help="A head that an earlier verification printed.")] = "",
    server: Server = "",
) -> None:
    """Check the log's chain, and print its head. Keep that elsewhere: only it shows that an end was cut off."""
    answer = Client(server).call("GET", f"/v1/audit/verify?head={quote(head, safe='')}")
    print(answer["head"])
    message(f"{answer['records']} records, the chain is whole")


def login(
    server: Annotated[str, typer.Option(help="unix://PATH or https://HOST:PORT")],
    token: Annotated[str, typer.Option(help="@FILE with an API token; asked for if left out.")] = "",
    ca: Annotated[str, typer.Option(help="A file of certificates that the controller's has to stand on.")] = "",
) -> None:
    """Remember which controller the commands speak to, and the token for it."""
    text = token
    if token.startswith("@"):
        try:
            text = Path(token[1:]).read_text().strip()
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", subject=token[1:]) from error
    elif not token and server.startswith("https://"):
        text = typer.prompt("API token", hide_input=True, err=True).strip()
    login = remember(server, text, ca)
    message(f"later commands speak to {login.server}")


def logout() -> None:
    """Forget the controller and its token."""
    forget()
    message("logged out; commands speak to this machine's controller")


def whoami(server: Server = "", output: Output = Format.TABLE) -> None:
    """Show who you are to the controller: role and tenants."""
    show_one(Client(server).call("GET", "/v1/whoami"), output)
