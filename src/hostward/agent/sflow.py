"""sFlow to a collector: every sample that was taken, and counters of ports, endpoints and the host.

UDP, as sFlow is: what the network loses is seen by the collector in sequence numbers, what the host could not send is
counted here.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hostward import _core
from hostward.datapath.devices import PortStatistics
from hostward.datapath.sampling import Taken
from hostward.model.slice import LocalEndpoint

log = logging.getLogger(__name__)

# A collector that cannot be found is looked for this often.
RESOLVE_PERIOD_S = 30.0
# Counters are sent this often (sflow_version_5.txt leaves it to the agent; 20 to 30 s is usual).
COUNTERS_PERIOD_S = 20.0


@dataclass(frozen=True, slots=True)
class SflowSettings:
    """Where to: a name or an address, and a UDP port. ``sub_agent`` tells agents of one machine apart."""

    host: str
    port: int
    sub_agent: int = 0


class SflowSender:
    """One collector. One caller at a time."""

    def __init__(self, settings: SflowSettings, host: str) -> None:
        """``host`` is this host's name."""
        self._settings = settings
        self._host = host
        self._began_s = time.monotonic()
        self._socket: socket.socket | None = None
        self._exporter: _core.SflowExporter | None = None
        self._sought_at_s = -RESOLVE_PERIOD_S
        self._addresses: tuple[Mapping[str, LocalEndpoint], dict[tuple[int, str], str]] = ({}, {})
        self.samples = 0  # handed to datagrams that were sent
        self.samples_failed = 0
        self.datagrams = 0
        self.datagrams_failed = 0

    def send_samples(self, taken: Sequence[Taken], endpoints: Mapping[str, LocalEndpoint]) -> None:
        """Send samples; ``endpoints`` are this host's, which name their peers where they are here too."""
        exporter = self._find()
        if exporter is None:
            self.samples_failed += len(taken)
            return
        waiting = 0
        for one in taken:
            users = self._users(one, endpoints)
            # A number that stands for one port alone.
            number = one.raw.slot if one.elsewhere or not one.ifindex else 0
            datagram = exporter.push_sample(one.raw, one.ifindex, number, users, self._uptime_ms)
            if datagram is not None:
                self._send(datagram, waiting)
                waiting = 0
            waiting += 1
        self._flush(exporter, waiting)

    def send_counters(
        self, endpoints: Mapping[str, LocalEndpoint], places: Mapping[str, int], ports: Mapping[str, PortStatistics]
    ) -> None:
        """Send counters; ``places`` are the endpoints' numbers on this host, ``ports`` what their devices counted."""
        exporter = self._find()
        if exporter is None:
            return
        known = [name for name in ports if name in endpoints and name in places]
        for name in known:
            one = ports[name]
            self._send_if(
                exporter.push_port(one.ifindex, one.bits_per_s, one.up, one.received, one.sent, self._uptime_ms)
            )
        # Apart from the others: Wireshark 4.0 loses its place at the host's structures.
        self._flush(exporter, 0)
        for name in known:
            one = ports[name]
            self._send_if(exporter.push_endpoint(places[name], name, one.received, one.sent, self._uptime_ms))
        machine = (self._host, platform.machine(), platform.release())
        memory = (_pages("SC_PHYS_PAGES"), _pages("SC_AVPHYS_PAGES"))
        self._send_if(exporter.push_host(machine, os.cpu_count() or 1, memory, len(endpoints), self._uptime_ms))
        self._flush(exporter, 0)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def _uptime_ms(self) -> int:
        return int((time.monotonic() - self._began_s) * 1_000) & 0xFFFF_FFFF

    def _flush(self, exporter: _core.SflowExporter, waiting: int) -> None:
        self._send_if(exporter.flush(self._uptime_ms), waiting)

    def _send_if(self, datagram: bytes | None, samples: int = 0) -> None:
        if datagram is not None:
            self._send(datagram, samples)

    def _send(self, datagram: bytes, samples: int) -> None:
        assert self._socket is not None
        try:
            self._socket.send(datagram)
        except OSError:
            # Refused by a collector that is not up, or no room: sFlow does not send again.
            self.datagrams_failed += 1
            self.samples_failed += samples
        else:
            self.datagrams += 1
            self.samples += samples

    def _users(self, one: Taken, endpoints: Mapping[str, LocalEndpoint]) -> tuple[str, str]:
        if self._addresses[0] is not endpoints:
            known = {(e.network, address): name for name, e in endpoints.items() for address in e.addresses}
            self._addresses = (endpoints, known)
        told = one.told
        own = endpoints.get(told.endpoint)
        remote = told.destination if told.direction == "egress" else told.source
        return told.endpoint, "" if own is None else self._addresses[1].get((own.network, remote), "")

    def _find(self) -> _core.SflowExporter | None:
        now_s = time.monotonic()
        if self._exporter is None and now_s - self._sought_at_s >= RESOLVE_PERIOD_S:
            self._sought_at_s = now_s
            try:
                self.connect()
            except OSError as error:
                log.warning("no sFlow is sent to %s:%d: %s", self._settings.host, self._settings.port, error)
        return self._exporter

    def connect(self) -> None:
        """Find the collector, from the network namespace of the caller. Raises OSError."""
        found = socket.getaddrinfo(self._settings.host, self._settings.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            made.connect(address)
        except OSError:
            made.close()
            raise
        self._socket = made
        # The address by which the collector knows this agent is the one that it is reached from.
        self._exporter = _core.SflowExporter(str(made.getsockname()[0]).partition("%")[0], self._settings.sub_agent)


def _pages(name: str) -> int:
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def sampled(endpoints: Iterable[LocalEndpoint]) -> bool:
    """Whether any endpoint is."""
    return any(endpoint.sampling for endpoint in endpoints)
