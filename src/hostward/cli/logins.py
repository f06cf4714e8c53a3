"""Which controller the commands speak to, and with which token: the login file, of mode 0600, and the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostward.errors import UsageError

DEFAULT_SERVER = "unix:///run/hostward/api.sock"


@dataclass(frozen=True, slots=True)
class Login:
    """One controller. ``ca`` is a file of certificates that its own has to stand on; empty: the system's."""

    server: str
    token: str = ""
    ca: str = ""

    @property
    def remote(self) -> bool:
        """Whether it is reached over TLS."""
        return self.server.startswith("https://")


def login_file() -> Path:
    """Where the login is kept."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(folder).expanduser() / "hostward" / "login.json"


def login_for(given: str) -> Login:
    """The controller of ``--server``, else of HOSTWARD_SERVER, else the login's, else this machine's. Raises UsageError.

    A token goes only to the server that it was given for: HOSTWARD_TOKEN to any, the login's to the login's.
    """
    kept = _read()
    server = _address(given or os.environ.get("HOSTWARD_SERVER", "") or (kept.server if kept else DEFAULT_SERVER))
    ours = kept if kept is not None and kept.server == server else Login(server)
    token = os.environ.get("HOSTWARD_TOKEN", "") or ours.token
    ca = os.environ.get("HOSTWARD_CA", "") or ours.ca
    login = Login(server, token, ca)
    if login.remote and not token:
        raise UsageError(
            "you are not logged in there",
            subject=server,
            hint=f"hostward login --server {server} --token @FILE, or set HOSTWARD_TOKEN",
        )
    return login


def remember(server: str, token: str = "", ca: str = "") -> Login:
    """Make a controller the one of later commands. Raises UsageError."""
    login = Login(_address(server), token, str(Path(ca).absolute()) if ca else "")
    if login.remote != bool(token):
        what = "a token is needed beyond this machine" if login.remote else "a Unix socket takes no token"
        raise UsageError(what, subject=server, hint="tokens are made by: hostward access token create")
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    # Created with its mode: there is no moment at which others could read the token.
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(login))
    fresh.replace(path)
    return login


def forget() -> None:
    """Log out."""
    login_file().unlink(missing_ok=True)


def _read() -> Login | None:
    path = login_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Login)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"the login cannot be read: {error}", subject=str(path), hint="hostward logout") from error


def _address(text: str) -> str:
    if text.startswith("http://"):
        raise UsageError("beyond this machine there is only TLS", subject=text, hint="write https://HOST:PORT")
    if text.startswith("https://"):
        return text.rstrip("/")
    return f"unix://{Path(text.removeprefix('unix://')).absolute()}"
