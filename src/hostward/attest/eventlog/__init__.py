"""TCG event logs: what a machine's firmware and boot loader measured, replayed into PCR values (ADR 21)."""

from hostward.attest.eventlog.log import Event, EventLog, Format, parse_event_log
from hostward.attest.eventlog.replay import replay
from hostward.attest.eventlog.types import EventType

__all__ = ["Event", "EventLog", "EventType", "Format", "parse_event_log", "replay"]
