"""Flow records for collectors: what may be chosen of the exporter, and the names that it is told.

The exporter is a thread of the extension module. It reads the ring of events, so that no event of a flow passes Python on
its way to a collector; here it is only told which endpoints, rules and executables the datapath's numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hostward import _core
from hostward.errors import DatapathError
from hostward.model.endpoint import Quota
from hostward.model.slice import HostSlice, LocalEndpoint

# For documentation (RFC 5612): who has a number of their own sets it.
DEFAULT_ENTERPRISE = 32_473
# Flows that a table may hold beyond those that the kernel tracks: ended ones whose end is on its way.
_TABLE_SLACK = 4_096
# Rules whose numbers are remembered at least: records name rules that were revoked meanwhile.
_RULES_KEPT = 262_144


@dataclass(frozen=True, slots=True)
class FlowExportSettings:
    """Where flow records go, and how. ``collector`` is host and UDP port.

    ``standard`` leaves out whatever has an enterprise's number. An endpoint may have ``events_per_s`` events in place of
    its quota's, if that is less; what the controller is told of stays within the quota. ``flows`` bounds the table of
    records, 0: as many as the kernel tracks. ``waiting`` bounds the messages that the socket did not take yet. A file of
    JSON lines has at most ``json_octets``, and ``json_files`` older ones are kept.
    """

    collector: tuple[str, int] | None = None
    standard: bool = False
    enterprise: int = DEFAULT_ENTERPRISE
    domain: int = 1
    active_timeout_s: float = 60.0
    inactive_timeout_s: float = 15.0
    events_per_s: int = 250_000
    flows: int = 0
    waiting: int = 512
    json_lines: Path | None = None
    json_octets: int = 100_000_000
    json_files: int = 5

    def events_of(self, events_per_s: int, events_burst: int) -> tuple[int, int]:
        """Events a second and at once that an endpoint of such a quota may cost."""
        return max(events_per_s, self.events_per_s), max(events_burst, self.events_per_s // 10)


@dataclass(frozen=True, slots=True)
class FlowExportCounts:
    """What the exporter did and lost, since it was started; ``bucket_lost_events`` and ``ring_lost_events`` are the
    kernel's. See docs/reference/flow-records.md.
    """

    counts: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)


class FlowExporter:
    """The exporter's thread. Raises DatapathError where it cannot be started."""

    def __init__(self, core: _core.Datapath, settings: FlowExportSettings, tracked: int) -> None:
        """``tracked`` is how many flows the kernel tracks at most."""
        self._endpoints: dict[int, tuple[str, str, str, int, str]] | None = None  # nothing was told yet
        self._quotas: dict[int, Quota] = {}
        self._rules: dict[int, tuple[str, ...]] = {}
        self._executables: dict[tuple[int, int], str] = {}
        try:
            self._core = _core.FlowExport(
                core,
                collector=settings.collector,
                standard=settings.standard,
                enterprise=settings.enterprise,
                domain=settings.domain,
                flows=settings.flows or tracked + _TABLE_SLACK,
                active_s=settings.active_timeout_s,
                inactive_s=settings.inactive_timeout_s,
                waiting=settings.waiting,
                lines=settings.json_lines,
                line_octets=settings.json_octets,
                line_files=settings.json_files,
            )
        except _core.CoreError as error:
            raise DatapathError(str(error), subject="flow records", hint="check [export]") from error

    def tell_endpoints(self, endpoints: Mapping[int, LocalEndpoint], interfaces: Mapping[str, int]) -> None:
        """Which endpoint a slot is, and by endpoint the index of the device that it is attached by."""
        names = {
            slot: (one.tenant, one.id, ",".join(one.groups), interfaces.get(one.id, 0), one.port.device)
            for slot, one in endpoints.items()
        }
        quotas = {slot: one.quota for slot, one in endpoints.items()}
        if names == self._endpoints and quotas == self._quotas:
            return
        shares = [(slot, quota.events_per_s, quota.events_burst) for slot, quota in quotas.items()]
        self._core.set_endpoints(names, shares)
        self._endpoints, self._quotas = names, quotas

    def tell_rules(self, desired: HostSlice) -> None:
        """What the slice's numbers of decisions and limits mean; older ones keep their meaning."""
        rules = {number: decision.rules for number, decision in desired.decisions.items()}
        for decision in desired.decisions.values():
            rules.update({limit.number: (limit.rule,) for limit in decision.limits})
        new = {number: ids for number, ids in rules.items() if self._rules.get(number) != ids}
        anew = len(self._rules) + len(new) > max(_RULES_KEPT, 2 * len(rules))
        if anew:
            self._rules, new = {}, rules
        if new:
            self._core.add_rules({number: ",".join(ids) for number, ids in new.items()}, anew)
            self._rules.update(new)

    def tell_executables(self, executables: Mapping[tuple[int, int], str]) -> None:
        """Which executable a slot's number is."""
        if executables != self._executables:
            self._executables = dict(executables)
            self._core.set_executables(self._executables)

    def counts(self) -> FlowExportCounts:
        """What it did until now."""
        return FlowExportCounts(self._core.counts())

    def problem(self) -> str:
        """What stands in its way; empty: nothing."""
        return self._core.problem()

    def close(self) -> None:
        """Tell the rest of every flow, and end the thread."""
        self._core.close()
