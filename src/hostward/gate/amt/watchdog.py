"""Agent Presence: a watchdog in the firmware that enables the quarantine if nobody asserted it in time."""

from __future__ import annotations

import base64
import hashlib

from hostward.gate.amt.wsman import WsMan

WATCHDOG = "AMT_AgentPresenceWatchdog"
_ANY_STATE, _EXPIRED, _RUNNING = "31", "8", "4"
# Of 16 bytes and not zero: any name will do, and it has to be the same one when a gate comes back.
DEVICE = base64.b64encode(hashlib.sha256(b"hostward gate").digest()[:16]).decode()


class Watchdog:
    """One machine's. Lives are whole seconds; the methods raise DatapathError."""

    def __init__(self, amt: WsMan) -> None:
        self._amt = amt
        self._keys = {"DeviceID": DEVICE}
        self._sequence = 0
        self._limit_s = 0

    def install(self, action: int) -> None:
        """Make it anew, with its one action: whatever it was, once it has expired the quarantine is enabled."""
        for held in list(self._amt.instances(WATCHDOG)):
            if held.get("DeviceID") == DEVICE:
                self._amt.delete(WATCHDOG, self._keys)
        fields = {"DeviceID": DEVICE, "MonitoredEntityDescription": "hostward"}
        self._amt.create(WATCHDOG, fields | {"StartupInterval": "60", "TimeoutInterval": "60"})
        self._sequence = self._limit_s = 0
        wanted = {"EventOnTransition": "false", "ActionSd": str(action), "ActionEac": "false"}
        self._amt.invoke(WATCHDOG, self._keys, "AddAction", {"OldState": _ANY_STATE, "NewState": _EXPIRED, **wanted})
        # And running again it is not in the way of the open policy any more.
        wanted["ActionSd"] = str(1 - action)
        self._amt.invoke(WATCHDOG, self._keys, "AddAction", {"OldState": _EXPIRED, "NewState": _RUNNING, **wanted})

    def limit(self, seconds: int) -> None:
        """It is running, and expires so many seconds from now."""
        if seconds != self._limit_s:
            self._amt.put(
                WATCHDOG, self._keys, {"DeviceID": DEVICE, "StartupInterval": "60", "TimeoutInterval": str(seconds)}
            )
            self._limit_s, self._sequence = seconds, 0
        if not self._sequence:
            told = self._amt.invoke(WATCHDOG, self._keys, "RegisterAgent", {})
            self._sequence = int(told["SessionSequenceNumber"])
        self._sequence += 1
        self._amt.invoke(WATCHDOG, self._keys, "AssertPresence", {"SequenceNumber": str(self._sequence)})

    def stop(self) -> None:
        """Count no more."""
        if self._sequence:
            self._sequence += 1
            self._amt.invoke(WATCHDOG, self._keys, "AssertShutdown", {"SequenceNumber": str(self._sequence)})
            self._sequence = 0
