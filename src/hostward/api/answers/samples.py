"""Samples of packets, and what they estimate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel

from hostward.api.answers.base import Answer, Moment
from hostward.api.answers.flows import FlowSide
from hostward.model.verdict import Direction, Verdict


class SampleLine(Answer):
    """One line of `/v1/samples`: a packet that was taken at random."""

    kind: Literal["sample"]
    time: Moment
    host: str
    endpoint: str = Field(description="Whose port met the packet.")
    tenant: str = Field(description="The endpoint's.")
    network: str
    direction: Direction = Field(description="As the endpoint sees it.")
    verdict: Verdict
    reason: str = Field(description="Why it was denied or invalid; empty for allow.")
    rule: str = Field(description="The first of `rules`; empty if there is none.")
    rules: list[str] = Field(description="The ids of the rules that decided; two where two tenants had to consent.")
    src: FlowSide = Field(description="As in the packet's header.")
    dst: FlowSide = Field(description="As in the packet's header.")
    proto: str = Field(description="A protocol's name, or its number where it has none here.")
    ethertype: int = Field(description="Of the Ethernet header: 2048 is IPv4.")
    bytes: int = Field(description="The whole frame's length.")
    segments: int = Field(description="Of a super-packet (segmentation offload), which counts as one packet; else 0.")
    rate: int = Field(description="One packet in so many is taken: this one stands for as many.")


class Estimated(Answer):
    """What samples estimate."""

    samples: int = Field(description="Samples that arrived.")
    packets: int = Field(description="The estimate of packets.")
    bytes: int = Field(description="The estimate of bytes of frames.")
    error_percent: float | None = Field(
        description="196·√(1/samples): in 95 cases of 100 `packets` is off by no more; null without samples."
    )
    bytes_error_percent: float | None = Field(description="The same of `bytes`, where frames' lengths differ, too.")


class SampleClassRow(Estimated):
    """The packets of one direction and verdict."""

    direction: Direction
    verdict: Verdict


class SampleTotalLine(Estimated):
    """One line of `/v1/samples`: what was sampled of an endpoint since its agent began to look."""

    kind: Literal["total"]
    time: Moment
    host: str
    endpoint: str
    tenant: str
    rate: int = Field(description="One packet in so many, now; 0: none any more.")
    pool: int = Field(description="Packets that could have been taken: exact.")
    taken: int = Field(description="Packets that were taken: exact.")
    lost: int = Field(description="Of those, the ones for which the host had no room: exact.")
    untold: int = Field(
        description="Samples that are in the sums and had no line of their own, for there were too many."
    )
    classes: list[SampleClassRow]


class SampleStreamLine(RootModel[SampleLine | SampleTotalLine]):
    """A line of `/v1/samples`: a sample, or the sum of an endpoint's."""
