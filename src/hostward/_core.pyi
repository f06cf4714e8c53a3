"""The kernel's datapath, as Rust gives it to Python. Everything raises CoreError when the kernel refuses.

Numbers are what ``bpf/abi.h`` says they are; addresses and prefixes are text; ``netns`` is empty for the caller's own
namespace, a name under /run/netns, or a path. Nothing here decides anything: the order of writes is
``hostward.datapath.programmer``'s.
"""

from os import PathLike
from typing import final

class CoreError(Exception):
    """The kernel or libbpf refused; the text says what and why."""

def reason_word(number: int) -> str | None: ...
def verdict_word(number: int) -> str | None: ...
def reason_words() -> list[str]: ...

# What one unit costs in 2^-24 ns, and the burst in ns.
_Rate = tuple[int, int]
# MAC, network, flows, events a second and at once, new flows, bytes and packets, priority; whether it picks up; the
# number of the workload's namespace; DHCP; guard and what is sampled.
_EndpointConfig = tuple[
    list[int],
    int,
    int,
    int,
    int,
    _Rate,
    list[_Rate],
    int,
    bool,
    int | None,
    list[str] | None,
    tuple[list[tuple[int, int]], int],
]
# (end, process, executable, the slot of the decision that it leads to)
_Choice = tuple[int, int, int, int]
# Number, verdict, log, flags, limits: (end, unit, number of the rule, rate), choices.
_Decision = tuple[int, int, bool, int, list[tuple[int, int, int, _Rate]], list[_Choice], list[int]]

@final
class Event:
    """One event; see ``hostward.model.flow.FlowEvent`` for the meaning. ``time_ns`` is CLOCK_MONOTONIC."""

    @property
    def time_ns(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def peer(self) -> int: ...
    @property
    def identity(self) -> int: ...
    @property
    def protocol(self) -> int: ...
    @property
    def ethertype(self) -> int: ...
    @property
    def others(self) -> bool: ...
    @property
    def process(self) -> int: ...
    @property
    def response(self) -> int: ...
    @property
    def source_mac(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def source_port(self) -> int: ...
    @property
    def destination(self) -> str: ...
    @property
    def destination_port(self) -> int: ...
    @property
    def packets(self) -> int: ...
    @property
    def bytes(self) -> int: ...

@final
class Sample:
    """One packet that was sampled, as it came; ``time_ns`` is CLOCK_MONOTONIC. ``segments``: of a super-packet, else 0."""

    @property
    def time_ns(self) -> int: ...
    @property
    def pool(self) -> int:
        """Packets of its endpoint that could have been taken up to then: of each CPU, up to its last sample."""
    @property
    def lost(self) -> int: ...
    @property
    def slot(self) -> int: ...
    @property
    def rate(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def peer(self) -> int: ...
    @property
    def frame_len(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def direction(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def process(self) -> int: ...
    @property
    def header(self) -> bytes: ...
    @property
    def ethertype(self) -> int: ...
    @property
    def protocol(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def source_port(self) -> int: ...
    @property
    def destination(self) -> str: ...
    @property
    def destination_port(self) -> int: ...

# Bytes, packets, errors, drops.
_Way = tuple[int, int, int, int]

@final
class SflowExporter:
    """Samples and counters in, datagrams of sFlow v5 out. Where bytes are returned, they are a datagram to be sent.

    ``uptime_ms`` is the time since the exporter began, modulo 2^32.
    """

    def __new__(cls, agent: str, sub_agent: int) -> SflowExporter: ...
    @property
    def oversized(self) -> int:
        """Samples that did not fit into any datagram."""
    def push_sample(
        self,
        sample: Sample,
        ifindex: int,
        number: int,
        users: tuple[str, str],
        uptime_ms: int,
    ) -> bytes | None:
        """``users`` are its endpoint and its peer.

        ``number``: its source is the logical host of that number, and not the interface; 0: it is.
        """
    def push_port(self, ifindex: int, speed: int, up: bool, received: _Way, sent: _Way, uptime_ms: int) -> bytes | None:
        """A port's counters, as its host sees them."""
    def push_endpoint(self, number: int, name: str, received: _Way, sent: _Way, uptime_ms: int) -> bytes | None:
        """The same of its endpoint, which has this number among logical hosts; ``received`` is the port's."""
    def push_host(
        self,
        host: tuple[str, str, str],
        cpus: int,
        memory: tuple[int, int],
        domains: int,
        uptime_ms: int,
    ) -> bytes | None:
        """The host: name, machine, release; memory, and free memory, in bytes; how many endpoints."""
    def flush(self, uptime_ms: int) -> bytes | None: ...
    def forget(self, ifindex: int, number: int) -> None: ...

@final
class Datapath:
    """The maps of one host. Opens what is pinned under ``pins``, or creates and pins it."""

    def __new__(
        cls,
        object_file: str | PathLike[str],
        pins: str | PathLike[str],
        *,
        endpoints: int,
        flows: int,
        cells: int,
        refs: int,
        prefixes: int,
        decisions: int,
        class_sets: int,
    ) -> Datapath: ...
    @property
    def reused(self) -> bool: ...
    def predecessor(self) -> Predecessor | None: ...
    def has_ring(self, slot: int) -> bool: ...
    def repin_maps(self) -> list[str]: ...
    def load_port(self, slot: int, name: str) -> Port: ...
    def pinned_ports(self) -> list[tuple[int, str]]: ...
    def write_endpoint(self, slot: int, config: _EndpointConfig) -> None: ...
    def holds_endpoint(self, slot: int, config: _EndpointConfig) -> bool: ...
    def map_memory(self, slot: int) -> list[tuple[str, int]]: ...
    def create_ring(self, slot: int, quota: int) -> None: ...
    def write_prefixes(self, prefixes: list[tuple[int, str, int]]) -> None: ...
    def remove_prefixes(self, prefixes: list[tuple[int, str]]) -> None: ...
    def read_prefixes(self) -> list[tuple[int, str, int]]: ...
    def write_class_set(self, class_set: int, blocks: list[list[tuple[int, int]]]) -> None: ...
    def holds_class_set(self, class_set: int, blocks: list[list[tuple[int, int]]]) -> bool: ...
    def write_cells(self, first: int, decisions: list[int]) -> None: ...
    def write_refs(self, first: int, refs: list[tuple[int, int, int]]) -> None: ...
    def read_refs(self, first: int, count: int) -> list[tuple[int, int, int]]: ...
    def read_cells(self, first: int, count: int) -> list[int]: ...
    def write_decision(self, slot: int, decision: _Decision) -> None: ...
    def holds_decision(self, slot: int, decision: _Decision) -> bool: ...
    def read_inspection(self, slot: int) -> tuple[int, int, int, int]:
        """Packets sent to the inspector; packets and bytes that passed unseen; packets denied because unseen."""

    def sum_inspection(self) -> tuple[int, int, int, int]:
        """The same of all slots together."""

    def inspector_maps(self) -> tuple[int, int, int, int]:
        """Of the inspector's ring a descriptor, the caller's to close, and its length in bytes; of the array in which the
        ring's reader says what it has read a descriptor, likewise, and its slots."""

    def read_decisions(self) -> list[tuple[int, _Decision]]: ...
    def watch_processes(self, object_file: str, cgroup: str) -> None: ...
    def write_executables(self, slot: int, executables: list[tuple[int, int]]) -> None: ...
    def read_executables(self, slot: int) -> list[tuple[int, int]]: ...
    def read_guard(self, slot: int) -> tuple[int | None, int | None, bool, int, list[int], bool]:
        """Throttled and quarantined for what kind, held, release, recognised by kind, whether it is in force."""
    def read_count(self, slot: int) -> tuple[int, int]: ...
    def read_reasons(self, slot: int) -> list[tuple[int, int]]: ...
    def read_usage(self, slot: int) -> tuple[int, int, int]: ...
    def read_flows(
        self, slot: int
    ) -> list[tuple[int, tuple[str, int], tuple[str, int], str, tuple[int, int], tuple[int, int]]]: ...
    def talkers(self) -> Talkers: ...
    def read_counts(self, slots: list[int]) -> list[tuple[int, tuple[int, int, int], dict[str, int]]]: ...
    def sum_counts(self, decisions: list[int]) -> tuple[int, int]: ...
    def retire_count(self, decision: int) -> None: ...
    def write_policy(
        self,
        index: int,
        revision: int,
        egress: tuple[int, int],
        ingress: tuple[int, int],
        identity: int,
        address: str,
    ) -> None: ...
    def read_policy(self, index: int) -> tuple[int, tuple[int, int], tuple[int, int], int, str]: ...
    def activate(self, slot: int, policy: int, generation: int) -> None: ...
    def read_active(self, slot: int) -> tuple[int, int]: ...
    def advance_epoch(self, network: int) -> None: ...
    def synchronize(self) -> None: ...
    def clear_slot(self, slot: int) -> None: ...
    def read_samples(self, slot: int) -> tuple[int, int, int]:
        """Packets that could have been sampled, that were taken, and of those the lost ones; slot 0: all that are gone."""
    def drain_samples(self, limit: int) -> list[Sample]: ...
    def drain_events(self, limit: int) -> list[Event]: ...

@final
class Talkers:
    """The heaviest peers by slot: address, protocol, port, packets, bytes, flows. Callable beside everything else."""

    def read(self, limit: int) -> dict[int, list[tuple[str, int, int, int, int, int]]]: ...

@final
class FlowExport:
    """A thread that reads the ring of events in place of ``drain_events``, which gets a share, and exports flow records."""

    def __new__(
        cls,
        datapath: Datapath,
        *,
        collector: tuple[str, int] | None,
        standard: bool,
        enterprise: int,
        domain: int,
        flows: int,
        active_s: float,
        inactive_s: float,
        waiting: int,
        lines: str | PathLike[str] | None,
        line_octets: int,
        line_files: int,
    ) -> FlowExport: ...
    def set_endpoints(
        self, endpoints: dict[int, tuple[str, str, str, int, str]], shares: list[tuple[int, int, int]]
    ) -> None:
        """By slot: tenant, endpoint, groups, index and name of the device; and events a second and at once that
        ``drain_events`` may get of a slot."""
    def add_rules(self, rules: dict[int, str], anew: bool) -> None:
        """By the decision's number; ``anew`` forgets those before."""
    def set_executables(self, executables: dict[tuple[int, int], str]) -> None: ...
    def counts(self) -> dict[str, int]: ...
    def problem(self) -> str: ...
    def close(self) -> None:
        """Tells the rest of every flow, and waits for the thread."""

@final
class Uplink:
    """The programs at a host's uplink. Dropping the object detaches nothing; callable from any thread."""

    def __new__(cls, object_file: str | PathLike[str]) -> Uplink: ...
    def count(self, netns: str, ifindex: int, pools: list[str]) -> None:
        """Count what arrives; sources within the pools are told apart."""
    def take_arrivals(self) -> tuple[list[tuple[str, int]], int]:
        """Bytes since the last call: by source, and of all others together."""
    def stop_counting(self, netns: str, ifindex: int) -> None: ...
    def restrain(self, netns: str, ifindex: int, ceilings: list[tuple[int, str, int, int]]) -> None:
        """Have exactly these: class, destination, class with the ceiling, its end in ns of the monotonic clock."""

@final
class Port:
    """The programs of one endpoint's port. Dropping the object detaches nothing."""

    @property
    def slot(self) -> int: ...
    def close_device(self, netns: str, ifindex: int) -> None: ...
    def attach(self, netns: str, ifindex: int, hook: str) -> None: ...
    def inspect(self, netns: str, ifindex: int, hook: str) -> list[str]: ...
    def detach(self, netns: str, ifindex: int) -> None: ...
    def remove_pins(self) -> None: ...
    def flush_denials(self) -> None: ...
    def judge(self, key: bytes, tag: int, marks: int) -> bool:
        """Whether the flow of 48 bytes of key and this tag is there: then ``marks`` (enum hw_flow_mark) are set."""

    def order(self, word: str, release: int) -> None:
        """``mend``, ``hold``, ``unhold`` or ``release`` the endpoint's guard."""
    def run(self, direction: str, frame: bytes, repeat: int) -> tuple[bool, int]: ...
    def run_empty(self, frame: bytes, repeat: int) -> int: ...

@final
class Predecessor:
    """The pinned maps of another version; see ``hostward.datapath.upgrade``. They are only read, until the end."""

    @property
    def version(self) -> int: ...
    @property
    def refusal(self) -> str:
        """Why no flow and no total is taken over; empty if they are."""
    def count_flows(self) -> int:
        """How many flows its tables hold, whatever their layout."""
    def carry_totals(self, datapath: Datapath, ports: list[Port]) -> None: ...
    def import_flows(self, ports: list[Port]) -> tuple[int, int, int, int, int]:
        """Flows added, advanced, held (nothing new), expired, lost."""
    def import_opened_flows(self, ports: list[Port]) -> tuple[int, int, int, int, int]:
        """Those of its flows that were opened since, by its rings: soon, however large its tables are."""
    def import_busy_flows(self, ports: list[Port]) -> tuple[int, int, int, int, int]:
        """The same for those alone that had packets of late when the tables were read last."""
    def remove(self) -> None:
        """Close whatever still runs on these maps, and unpin them."""

@final
class Bench:
    """The verdict over many flows: each run moves the frame on to the next flow before it decides. Never attached."""

    def __new__(cls, object_file: str | PathLike[str], pins: str | PathLike[str], slot: int) -> Bench: ...
    def rotate(
        self,
        *,
        flows: int,
        addresses: int,
        first_address: int,
        address_offset: int,
        first_port: int,
        port_offset: int,
        seq: int,
        seq_step: int,
        seq_offset: int,
    ) -> None: ...
    def run(self, direction: str, frame: bytes, repeat: int) -> tuple[bool, int]: ...
    def run_floor(self, frame: bytes, repeat: int) -> int: ...
    def try_sampling(
        self, seed: int, rate: int, packets: int, *, period: int = 1, phase: int = 0, in_step: bool = False
    ) -> int:
        """How many of so many packets are taken whose number leaves ``phase`` when it is divided by ``period``.

        By the datapath's own arithmetic with random numbers from ``seed``; ``in_step``: every ``rate``-th instead.
        """

@final
class Gate:
    """A gate's programs and deadlines; see ``hostward.gate.kernel``. Making one closes every port that it has."""

    def __new__(cls, object_file: str | PathLike[str], pins: str | PathLike[str]) -> Gate: ...
    def set_end(self, port: int, nanoseconds: int) -> None:
        """By CLOCK_MONOTONIC; 0: closed, 1: the quarantine profile does not hold either."""
    def set_profile(self, allowed: list[tuple[list[int], int, int, int]]) -> None:
        """Address of 16 bytes, prefix length of 128, protocol and port; 0: any."""
    def attach(self, port: int, netns: str, host: int, fabric: int, hook: str) -> None: ...
    def dropped(self, port: int) -> tuple[int, int]:
        """Packets that a closed port kept out: from the host, to the host."""
    def remove_pins(self) -> None: ...

@final
class Attached:
    """What is pinned under ``pins``, as the kernel has it; see ``hostward.datapath.attached``. Changes nothing."""

    def __new__(cls, pins: str | PathLike[str], by_number: bool) -> Attached: ...
    def read(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """SHA-256 by name: of what is attached, of what decides. Callable from any thread."""
