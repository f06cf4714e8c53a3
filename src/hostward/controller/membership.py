"""Who belongs: join tokens, host records and the certificates that may open a channel.

Owns enrolment's rules. It must not talk to agents: ``fleet`` closes the channels of those who lost their place.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hostward.agent.join_token import JoinToken, check_host_name, hash_secret
from hostward.controller.authority import Authority, Issued
from hostward.controller.ledger import Clock, Ledger
from hostward.errors import ConflictError, EnrolmentError, NotFoundError
from hostward.store.records import AuditEntry, AuditResult, HostRecord, HostState, TokenRecord

TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Attested:
    """Which certificates good evidence earned, by host; ``required``: no other opens a channel.

    ``forget`` is awaited when an operator's token gives a name anew.
    """

    serials: Callable[[str], Collection[str]]
    required: bool
    forget: Callable[[str], Awaitable[None]]


class Membership:
    """Enrols hosts and says which certificate may speak for which."""

    # Set where the controller attests its hosts.
    attested: Attested | None = None

    def __init__(self, ledger: Ledger, authority: Authority, clock: Clock, certificate_life: timedelta) -> None:
        self.authority = authority
        self._ledger = ledger
        self.clock = clock
        self._certificate_life = certificate_life
        self._joining = asyncio.Lock()

    async def make_token(self, host: str = "", life: timedelta = TOKEN_LIFE, author: str = "hostward") -> JoinToken:
        """A new join token, bound to ``host`` if that is given. Its secret is not kept and cannot be shown again."""
        if host:
            check_host_name(host)
        token = JoinToken(host, secrets.token_urlsafe(32), self.authority.pin)
        now = self.clock()
        objects = (f"host {host}",) if host else ()
        entry = AuditEntry(now, author, "enrol-host", objects, "a join token was made", AuditResult.DONE)
        await self._ledger.put_token(TokenRecord(hash_secret(token.secret), host, now + life), entry)
        return token

    async def join(self, host: str, secret: str, request: bytes) -> bytes:
        """Redeem a token's secret and return the host's certificate. Raises EnrolmentError.

        A name that is taken is given again only to a token bound to it: the operator meant it, and the certificates
        before it end. A host that was quarantined or evicted comes back quarantined.
        """
        check_host_name(host)
        async with self._joining:
            now = self.clock()
            issued = self.authority.issue_host(request, host, now, self._certificate_life)
            token = await self._ledger.redeem_token(hash_secret(secret), host, now)
            known = self._ledger.state.hosts.get(host)
            if known is not None and token.host != host:
                raise EnrolmentError(
                    "a host of this name is already enrolled",
                    subject=host,
                    hint=f"choose another name, or replace that host with a token bound to it: hostward host token {host}",
                )
            required = self.attested is not None and self.attested.required
            state = HostState.UNTRUSTED if required else HostState.ADMITTED
            if known is not None and known.state in (HostState.QUARANTINED, HostState.EVICTED):
                state = HostState.QUARANTINED
            if known is not None and self.attested is not None:
                await self.attested.forget(host)
            await self._ledger.put_host(HostRecord(host, state, now, (issued.serial,), issued.until))
            return issued.pem

    def check_certificate(self, host: str, serial: str) -> HostRecord:
        """The host that a verified certificate stands for, if it may have a channel now. Raises EnrolmentError.

        An admitted host without serials came out of a backup, which does not know how it was renewed since: whichever
        certificate it shows first becomes its own (``adopt``).
        """
        record = self._enrolled(host)
        if record.state is not HostState.ADMITTED:
            raise EnrolmentError(f"the host is {record.state.value}", subject=host)
        if self.attested is not None and serial in self.attested.serials(host):
            return record
        if self.attested is not None and self.attested.required:
            raise EnrolmentError(f"no good evidence stands behind certificate {serial}", subject=host)
        return _held_to(record, serial)

    def check_joined(self, host: str, serial: str) -> HostRecord:
        """The host that the certificate of its joining stands for, if it may attest. Raises EnrolmentError.

        One that is untrusted or quarantined may: its evidence is what is looked at, and what could bring it back.
        """
        record = self._enrolled(host)
        if record.state is HostState.EVICTED:
            raise EnrolmentError("the host is evicted", subject=host)
        return _held_to(record, serial)

    def _enrolled(self, host: str) -> HostRecord:
        record = self._ledger.state.hosts.get(host)
        if record is None:
            raise EnrolmentError("the host is not enrolled here", subject=host)
        return record

    async def adopt(self, host: str, serial: str, until: datetime) -> None:
        """Hold a host that came out of a backup to the certificate it shows. Raises EnrolmentError."""
        async with self._joining:
            record = self.check_joined(host, serial)
            if not record.serials:
                await self._ledger.put_host(replace(record, serials=(serial,), certificate_end=until))

    async def renew(self, host: str, serial: str, request: bytes) -> bytes:
        """A new certificate for a host whose channel stands on ``serial``, which stays valid until its own end."""
        record = self.check_joined(host, serial)
        issued: Issued = self.authority.issue_host(request, host, self.clock(), self._certificate_life)
        await self._ledger.put_host(replace(record, serials=(issued.serial, serial), certificate_end=issued.until))
        return issued.pem

    def record(self, host: str) -> HostRecord:
        """The host's record. Raises NotFoundError."""
        try:
            return self._ledger.state.hosts[host]
        except KeyError:
            raise NotFoundError(
                "there is no such host", subject=f"host {host}", hint="list them: hostward get hosts"
            ) from None

    def moved(self, host: str, state: HostState) -> HostRecord:
        """The record of ``host`` in ``state``, to be committed. Raises ConflictError if that move does not exist."""
        record = self.record(host)
        if record.state is state:
            raise ConflictError(f"the host is already {state.value}", subject=f"host {host}")
        if record.state is HostState.EVICTED:
            raise ConflictError(
                "the host was evicted and has no certificate",
                subject=f"host {host}",
                hint=f"let it join again: hostward host token {host}",
            )
        return replace(record, state=state, serials=() if state is HostState.EVICTED else record.serials)

    @property
    def now(self) -> datetime:
        """The controller's time."""
        return self.clock()


def _held_to(record: HostRecord, serial: str) -> HostRecord:
    if record.serials and serial not in record.serials:
        raise EnrolmentError(f"certificate {serial} was replaced by a later one", subject=record.name)
    return record
