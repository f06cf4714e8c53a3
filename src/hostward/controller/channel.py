"""The channel port: from a TLS connection to a session in the fleet, or to a logged refusal."""

from __future__ import annotations

import logging

from websockets.asyncio.server import ServerConnection

from hostward.agent.attestation_messages import ATTESTATION_PATH
from hostward.agent.messages import MESSAGE_LIMIT_BYTES, REFUSED
from hostward.controller.attestation.desk import AttestationDesk
from hostward.controller.authority import peer_of
from hostward.controller.fleet import Fleet
from hostward.controller.membership import Membership
from hostward.controller.session import Session
from hostward.errors import HostwardError
from hostward.listener import allow_messages, peer_text

log = logging.getLogger(__name__)


class ChannelDesk:
    """Handles the connections of the channel port."""

    def __init__(self, membership: Membership, fleet: Fleet, attestation: AttestationDesk | None = None) -> None:
        self._membership = membership
        self._fleet = fleet
        self._attestation = attestation

    async def serve(self, connection: ServerConnection) -> bool:
        """One agent's channel, or its attestation. The host's name is the certificate's, whatever the agent may say.

        Returns False if it was refused.
        """
        if connection.request is not None and connection.request.path == ATTESTATION_PATH:
            if self._attestation is None:
                await connection.close(REFUSED, "this controller attests no hosts")
                return False
            return await self._attestation.serve(connection)
        peer = peer_text(connection.remote_address)
        certificate = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            host, serial, until = peer_of(certificate)
            self._membership.check_certificate(host, serial)
            if self._membership.attested is None:
                await self._membership.adopt(host, serial, until)
            session = Session(connection, peer, host, serial, self._fleet, self._membership)
            self._fleet.enter(session)
        except HostwardError as error:
            log.warning("channel: refused %s: %s", peer, str(error).splitlines()[0])
            await connection.close(REFUSED, error.what[:100])
            return False
        allow_messages(connection, MESSAGE_LIMIT_BYTES)
        log.info("channel: host %s connected from %s", host, peer)
        try:
            await session.run(until)
        finally:
            self._fleet.leave(session)
            log.info("channel: host %s (%s) is gone", host, peer)
        return True
