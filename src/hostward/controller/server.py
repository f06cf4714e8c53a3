"""A running controller: store, CA, both TLS ports, and the service between them. ``api`` serves people beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.agent.attestation_messages import PRESENT_LIMIT_BYTES
from hostward.controller.access.devices import DeviceGrants
from hostward.controller.attestation.runner import AttestationRunner, RunningLink
from hostward.controller.attestation.service import Attestation
from hostward.controller.attestation.settings import AttestationSettings, GateAddress
from hostward.controller.attestation.trust_files import read_trust_folder
from hostward.controller.authority import HOST_LIFE, channel_context, enrolment_context, open_authority
from hostward.controller.channel import ChannelDesk
from hostward.controller.enrolment import ENROLMENT_MESSAGE_LIMIT_BYTES, EnrolmentDesk
from hostward.controller.fleet import Fleet
from hostward.controller.gate_link import GateLink, log_event
from hostward.controller.grant_key import RESULT_KEY_FILE, open_grant_key, private_pem
from hostward.controller.ledger import Ledger, utc_now
from hostward.controller.membership import Membership
from hostward.controller.recovery import DATABASE_FILE, complete_restore
from hostward.controller.service import Controller
from hostward.gate.channel_messages import Event
from hostward.listener import Listener
from hostward.private_files import make_private_directory
from hostward.store.sqlite import SqliteStore

DEFAULT_CHANNEL_PORT = 7443
DEFAULT_ENROLMENT_PORT = 7444


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Where a controller keeps its state and listens. Port 0 takes a free one."""

    state: Path
    address: str = "127.0.0.1"
    channel_port: int = DEFAULT_CHANNEL_PORT
    enrolment_port: int = DEFAULT_ENROLMENT_PORT
    certificate_life: timedelta = HOST_LIFE
    devices: DeviceGrants = field(default_factory=DeviceGrants)
    attestation: AttestationSettings | None = None
    gates: tuple[GateAddress, ...] = ()


MakeLink = Callable[[GateAddress, Ed25519PrivateKey, Callable[[str, Event], None]], RunningLink]


class ControllerServer:
    """Starts and stops everything that a controller is made of."""

    def __init__(self, settings: ControllerSettings, link: MakeLink = GateLink) -> None:
        """``link`` says how a gate is reached."""
        self._settings = settings
        self._link = link
        self._listeners: list[Listener] = []
        self.controller: Controller
        self.channel_address = ("", 0)
        self.enrolment_address = ("", 0)

    async def start(self) -> Controller:
        """Open the store and listen. Raises StoreError or OSError."""
        settings = self._settings
        make_private_directory(settings.state)
        await asyncio.to_thread(complete_restore, settings.state)
        now = utc_now()
        ledger = Ledger(await asyncio.to_thread(SqliteStore, settings.state / DATABASE_FILE))
        authority = open_authority(settings.state, now)
        server_file = authority.renew_server(now)
        membership = Membership(ledger, authority, utc_now, settings.certificate_life)
        fleet = Fleet(lambda _host, _events: None)
        self.controller = Controller(ledger, membership, fleet, settings.devices)
        await self.controller.start()
        runner = await self._attestation(ledger, membership)
        serve = ChannelDesk(membership, fleet, runner.desk if runner else None).serve
        channel = Listener(
            channel_context(server_file, authority), serve, name="channel", message_limit_bytes=PRESENT_LIMIT_BYTES
        )
        enrolment = Listener(
            enrolment_context(server_file),
            EnrolmentDesk(membership).serve,
            name="enrolment",
            message_limit_bytes=ENROLMENT_MESSAGE_LIMIT_BYTES,
        )
        for listener, port in ((channel, settings.channel_port), (enrolment, settings.enrolment_port)):
            await listener.start(settings.address, port)
            self._listeners.append(listener)
        self.channel_address, self.enrolment_address = channel.address, enrolment.address
        return self.controller

    async def _attestation(self, ledger: Ledger, membership: Membership) -> AttestationRunner | None:
        """The part that attests hosts, if this controller does. Raises HostwardError if what it trusts cannot be read."""
        settings = self._settings.attestation
        if settings is None:
            return None
        trust = await asyncio.to_thread(read_trust_folder, settings.trust)
        key = await asyncio.to_thread(open_grant_key, self._settings.state)
        results = private_pem(await asyncio.to_thread(open_grant_key, self._settings.state, RESULT_KEY_FILE))
        attestation = Attestation(settings, trust, ledger, membership.clock, self.controller.evidence_moves.move)
        ports = {(gate.name, port): host for gate in self._settings.gates for port, host in gate.ports.items()}

        def on_event(gate: str, event: Event) -> None:
            log_event(gate, event)
            word = f"gate-{event.change.value}"
            attestation.webhooks.tell(
                word,
                ports.get((gate, event.port), ""),
                membership.clock(),
                gate=gate,
                port=event.port,
                why=event.why,
                audit=event.would,
            )

        links = [self._link(gate, key, on_event) for gate in self._settings.gates]
        runner = self.controller.attestation = AttestationRunner(attestation, membership, links, key, results)
        runner.start()
        return runner

    async def stop(self) -> None:
        """Stop listening and close the store. Hosts go on enforcing."""
        if self.controller.attestation is not None:
            await self.controller.attestation.stop()
        await self.controller.stop()
        for listener in self._listeners:
            await listener.close()
        await self.controller.evidence_moves.drain()
        await self.controller.ledger.drain()
        self.controller.ledger.close()
