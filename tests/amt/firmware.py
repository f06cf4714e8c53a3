"""A management engine of the project's own: policies, filters, associations, watchdogs, as Intel's documents tell of them.

It decides which policy is in force, by its own clock, and hands it to ``Packets``. What the documents leave open is a
switch: which number of ``ActionSd`` enables a policy, and whether policies can time out (they can since release 4).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.amt.packets import RX, TX, Packets, Rules

POLICY, FILTERS = "AMT_SystemDefensePolicy", ("AMT_IPHeadersFilter", "AMT_Hdr8021Filter")
ENABLED, DEFAULT = "AMT_NetworkPortSystemDefensePolicy", "AMT_NetworkPortDefaultSystemDefensePolicy"
PRESENCE, WATCHDOG = "AMT_AgentPresenceInterfacePolicy", "AMT_AgentPresenceWatchdog"
ASSOCIATIONS = (ENABLED, DEFAULT, PRESENCE)
NOT_STARTED, STOPPED, RUNNING, EXPIRED = 1, 2, 4, 8
POLICIES_MAX, FILTERS_MAX, WATCHDOGS_MAX = 8, 80, 16

Fields = dict[str, str]


class RefusedError(Exception):
    """A fault."""


@dataclass
class Policy:
    fields: Fields
    handles: list[str]
    timeout_s: int = 0
    until: float = 0.0


@dataclass
class Watch:
    fields: Fields
    actions: list[Fields] = field(default_factory=list)
    state: int = NOT_STARTED
    sequence: int = 0
    until: float = 0.0


class Firmware:
    def __init__(self, packets: Packets, *, activates: str = "1", timeouts: bool = True) -> None:
        self._packets, self._activates, self._timeouts = packets, activates, timeouts
        self.policies: dict[str, Policy] = {}
        self.filters: dict[str, tuple[str, Fields]] = {}
        self.bound: dict[str, str] = {}  # association: policy
        self.watches: dict[str, Watch] = {}
        self.presence = False
        self.lock = threading.Condition()
        self._number = 0
        self._stopped = False
        self._in_force: Rules | None = None
        self._timer = threading.Thread(target=self._run, daemon=True)
        self._timer.start()

    def stop(self) -> None:
        with self.lock:
            self._stopped = True
            self.lock.notify()
        self._timer.join()
        self._packets.remove()

    def handle(self) -> str:
        self._number += 1
        return str(self._number)

    # Called with the lock held, each followed by ``settle``.

    def create_policy(self, fields: Fields, handles: list[str]) -> str:
        if len(self.policies) >= POLICIES_MAX:
            raise RefusedError("there are 8 policies")
        if len(fields["PolicyName"]) > 16 or len(handles) > 62 or not set(handles) <= self.filters.keys():
            raise RefusedError("a policy that cannot be")
        made = self.handle()
        self.policies[made] = Policy(fields | {"InstanceID": made}, handles)
        return made

    def create_filter(self, kind: str, fields: Fields) -> str:
        if len(self.filters) >= FILTERS_MAX:
            raise RefusedError("there are 80 filters")
        if not 0 < len(fields["Name"]) <= 16 or fields["FilterDirection"] not in (TX, RX):
            raise RefusedError("a filter that cannot be")
        made = self.handle()
        self.filters[made] = (kind, fields | {"InstanceID": made})
        return made

    def bind(self, association: str, policy: str) -> None:
        if policy not in self.policies:
            raise RefusedError("no such policy")
        if association in self.bound:
            raise RefusedError("the interface has one already")
        self.bound[association] = policy
        if association == ENABLED:
            self._start(self.policies[policy])

    def delete(self, kind: str, key: str) -> None:
        if kind == WATCHDOG:
            if self.watches.pop(key, None) is None:
                raise RefusedError("no such watchdog")
            self.presence = False
        elif kind in ASSOCIATIONS:
            if self.bound.get(kind) != key:
                raise RefusedError("no such association")
            del self.bound[kind]
        elif kind == POLICY:
            if key in self.bound.values():
                raise RefusedError("the policy is in use")
            if self.policies.pop(key, None) is None:
                raise RefusedError("no such policy")
        else:
            if any(key in policy.handles for policy in self.policies.values()):
                raise RefusedError("the filter is in use")
            if self.filters.pop(key, None) is None:
                raise RefusedError("no such filter")

    def call(self, kind: str, key: str, method: str, given: Mapping[str, str]) -> Fields:
        """A method; what it answers beside ReturnValue 0."""
        if kind == POLICY and method == "SetTimeout" and key in self.policies:
            self.policies[key].timeout_s = int(given["Timeout"])
            self._start(self.policies[key])
            return {}
        watch = self.watches.get(key)
        if kind != WATCHDOG or watch is None:
            raise RefusedError("no such instance or method")
        if method == "AddAction":
            if len(watch.actions) >= 3:
                raise RefusedError("three actions are what is guaranteed")
            watch.actions.append(dict(given))
        elif method == "RegisterAgent":
            self._enter(watch, RUNNING)
            watch.sequence = int(time.monotonic() * 1e6) % 65_521
            return {"SessionSequenceNumber": str(watch.sequence), "TimeoutInterval": watch.fields["TimeoutInterval"]}
        elif method in ("AssertPresence", "AssertShutdown"):
            if watch.state not in (RUNNING, EXPIRED) or int(given["SequenceNumber"]) != watch.sequence + 1:
                return {"ReturnValue": "36"}
            watch.sequence += 1
            self._enter(watch, RUNNING if method == "AssertPresence" else STOPPED)
        else:
            raise RefusedError("no such method")
        return {}

    def settle(self) -> None:
        """Make the policy that follows from all this the one in force."""
        rules = self._active()
        if rules != self._in_force:
            self._packets.enforce(rules)
            self._in_force = rules
        self.lock.notify()

    def _active(self) -> Rules | None:
        enabled = [self.bound[ENABLED]] if ENABLED in self.bound else []
        enabled = [key for key in enabled if not self._timed_out(self.policies[key])]
        if self.presence and PRESENCE in self.bound:
            enabled.append(self.bound[PRESENCE])
        ranked = sorted(enabled, key=lambda key: int(self.policies[key].fields["PolicyPrecedence"]))
        key = ranked[-1] if ranked else self.bound.get(DEFAULT)
        if key is None:
            return None
        policy = self.policies[key]
        drops = {way: policy.fields[f"{name}DefaultDrop"] == "true" for way, name in ((TX, "Tx"), (RX, "Rx"))}
        return Rules(drops, [self.filters[handle] for handle in policy.handles])

    def _start(self, policy: Policy) -> None:
        policy.until = time.monotonic() + policy.timeout_s

    def _timed_out(self, policy: Policy) -> bool:
        return self._timeouts and policy.timeout_s > 0 and time.monotonic() >= policy.until

    def _enter(self, watch: Watch, state: int) -> None:
        old, watch.state = watch.state, state
        watch.until = time.monotonic() + int(watch.fields["TimeoutInterval"])
        if old != state:
            for action in watch.actions:
                if int(action["OldState"]) & old and int(action["NewState"]) & state:
                    self.presence = action["ActionSd"] == self._activates

    def _run(self) -> None:
        with self.lock:
            while not self._stopped:
                now = time.monotonic()
                for watch in self.watches.values():
                    if watch.state == RUNNING and now >= watch.until:
                        self._enter(watch, EXPIRED)
                self.settle()
                ends = [watch.until for watch in self.watches.values() if watch.state == RUNNING]
                ends += [each.until for each in self.policies.values() if each.timeout_s and each.until > now]
                self.lock.wait(max(0.001, min(ends) - time.monotonic()) if ends else None)
