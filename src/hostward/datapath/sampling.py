"""Samples between the kernel and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostward import _core
from hostward.model.sample import PacketSample, SampleCounts
from hostward.model.slice import LocalEndpoint


@dataclass(frozen=True, slots=True)
class Taken:
    """One sample, as it is told, and with its first bytes as the kernel gave it.

    ``ifindex`` is the port's, 0 if it is away, and ``elsewhere`` whether it is in a namespace of its own, where numbers
    are others'.
    """

    told: PacketSample
    raw: _core.Sample
    ifindex: int
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Naming:
    """What a sample's numbers mean here."""

    offset_ns: int  # from CLOCK_MONOTONIC to CLOCK_REALTIME
    endpoints: Mapping[int, LocalEndpoint]  # by slot
    networks: Mapping[int, str]
    rules: Mapping[int, tuple[str, ...]]
    executables: Mapping[tuple[int, int], str]

    def tell(self, sample: _core.Sample, peer: int) -> PacketSample | None:
        """The sample as it is told; None of an endpoint that is gone. ``peer`` is the peer's identity."""
        endpoint = self.endpoints.get(sample.slot)
        if endpoint is None:
            return None
        own = (f"hostward/{sample.reason}",) if sample.reason else ()
        return PacketSample(
            time_ns=sample.time_ns + self.offset_ns,
            endpoint=endpoint.id,
            tenant=endpoint.tenant,
            network=self.networks.get(endpoint.network, str(endpoint.network)),
            direction=sample.direction,
            verdict=sample.verdict,
            reason=sample.reason,
            number=sample.number,
            rules=self.rules.get(sample.number) or own,
            rate=sample.rate,
            bytes=sample.frame_len,
            segments=sample.segments,
            protocol=sample.protocol,
            ethertype=sample.ethertype,
            source=sample.source,
            source_port=sample.source_port,
            destination=sample.destination,
            destination_port=sample.destination_port,
            peer=peer,
            process=self.executables.get((sample.slot, sample.process), ""),
        )


def read_counts(core: _core.Datapath, slot: int) -> SampleCounts:
    """What was counted of a slot's endpoint. Raises CoreError."""
    return SampleCounts(*core.read_samples(slot))
