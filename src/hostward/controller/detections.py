"""What the inspectors of all hosts found, checked against what the controller knows before anybody sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hostward.controller.alerts import Alerts
from hostward.controller.ledger import Ledger
from hostward.controller.publisher import Publisher

log = logging.getLogger(__name__)

# Of one alert; a payload is cut by the inspector far below it.
_EVENT_PARTS_MAX = 200


class Detections:
    """Takes alerts in EVE's form. ``refused`` counts those that a host may not raise, or that are none."""

    def __init__(self, ledger: Ledger, publisher: Publisher, alerts: Alerts) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._alerts = alerts
        self.refused = 0

    def take(self, host: str, found: Sequence[Mapping[str, Any]]) -> None:
        """What a host's inspector found. Returns at once."""
        own = [alert for event in found if (alert := self._checked(host, event)) is not None]
        if len(own) < len(found):
            self.refused += len(found) - len(own)
            log.warning("%d alerts of host %s are of no endpoint of its own, or no alerts", len(found) - len(own), host)
        if own:
            self._alerts.add_detected(own)

    def _checked(self, host: str, event: Mapping[str, Any]) -> dict[str, object] | None:
        """The alert as it is shown; None if no host may say so: of an endpoint that it does not carry, for one."""
        own = event.get("hostward")
        said: Mapping[str, Any] = own if isinstance(own, dict) else {}
        name, rule, process, revision = (said.get(key) for key in ("endpoint", "rule", "process", "revision"))
        endpoint = self._ledger.state.endpoints.get(name) if isinstance(name, str) else None
        if endpoint is None or endpoint.host != host or event.get("event_type") != "alert":
            return None
        try:
            moment = datetime.fromisoformat(str(event["timestamp"]))
            signature = {key: event["alert"][key] for key in ("signature_id", "gid", "rev", "signature", "severity")}
        except (ValueError, KeyError, TypeError):
            return None
        if moment.tzinfo is None or len(event) > _EVENT_PARTS_MAX or not isinstance(signature["signature"], str):
            return None
        return {
            **event,
            "timestamp": moment.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "hostward": {
                "tenant": endpoint.tenant,
                "endpoint": endpoint.id,
                "group": self._publisher.groups_of(endpoint),
                "network": endpoint.network,
                "host": host,
                "process": process if isinstance(process, str) else None,
                "rule": rule if isinstance(rule, str) else None,
                "revision": revision if isinstance(revision, int) else 0,
            },
        }
