"""Every driver of the gate over one pair of namespaces: how the conformance suite makes it, here and in another process."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from hostward.errors import DatapathError
from hostward.gate.amt.driver import AmtDriver, AmtPort
from hostward.gate.amt.wsman import WsMan
from hostward.gate.driver import Driver
from hostward.gate.kernel import Allowed, GatePort, Hook, KernelDriver
from hostward.gate.switch_port import SwitchPort, SwitchPortDriver
from tests.amt.server import PASSWORD, USER, engine
from tests.netns.pair import Pair

MS = 1_000_000


class Setting(Protocol):
    """One driver and what it needs around it. What ``make`` made is taken away by ``remove``, however often it was."""

    late_ms: int  # behind its deadline, with every process of the gate dead

    def make(self, *profile: Allowed) -> Driver: ...

    def words(self) -> list[str]:
        """By which ``setting`` makes the same in another process."""

    def remove(self) -> None: ...


class KernelSetting:
    late_ms = 0

    def __init__(self, pair: Pair, pins: Path, hook: Hook) -> None:
        self._pair, self._pins, self._hook = pair, pins, hook
        self._made: list[KernelDriver] = []

    def make(self, *profile: Allowed) -> Driver:
        port = GatePort("p", *(number(self._pair.device(name)) for name in "ab"))
        self._made.append(KernelDriver(self._pins, [port], profile, self._hook))
        return self._made[-1]

    def words(self) -> list[str]:
        return [self._hook.value, self._pair.tag, str(self._pins)]

    def remove(self) -> None:
        # The last one's pins are everybody's.
        for made in self._made[-1:]:
            made.remove()


class SwitchPortSetting:
    """The pair's bridge is the switch."""

    late_ms = 100

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._made: list[SwitchPortDriver] = []

    def make(self, *profile: Allowed) -> Driver:
        address = bytes.fromhex(self._pair.mac("a").replace(":", ""))
        port = SwitchPort("p", number(self._pair.device("a")), number(self._pair.bridge), (address,))
        self._made.append(SwitchPortDriver([port]))
        return self._made[-1]

    def words(self) -> list[str]:
        return ["switch-port", self._pair.tag, ""]

    def remove(self) -> None:
        for made in self._made:
            made.remove()


class AmtSetting:
    """The machine behind `a`'s device has a simulated management engine; ``url`` is that of another process."""

    late_ms = 1_000

    def __init__(self, pair: Pair, url: str = "") -> None:
        self._stack = ExitStack()
        self.url = url or self._stack.enter_context(engine(pair.device("a"))).url
        self._tag = pair.tag
        self._made: list[AmtDriver] = []

    def make(self, *profile: Allowed) -> Driver:
        self._made.append(AmtDriver([AmtPort("p", WsMan(self.url, USER, PASSWORD, None))], profile))
        return self._made[-1]

    def words(self) -> list[str]:
        return ["amt", self._tag, self.url]

    def remove(self) -> None:
        with self._stack:
            # Whoever is first has lost the engine's policies to those after it.
            for made in reversed(self._made):
                with suppress(DatapathError):
                    made.remove()


def number(device: str) -> int:
    return socket.if_nametoindex(device)


def setting(kind: str, pair: Pair, where: str) -> Setting:
    """``where`` are the pins, or in another process the engine's address."""
    if kind == "amt":
        return AmtSetting(pair, where if where.startswith("http") else "")
    if kind == "switch-port":
        return SwitchPortSetting(pair)
    return KernelSetting(pair, Path(where), Hook(kind))


@contextmanager
def standing(kind: str, pair: Pair, pins: Path) -> Iterator[Setting]:
    made = setting(kind, pair, str(pins))
    pair.set_up()
    try:
        yield made
    finally:
        made.remove()


def hold(kind: str, tag: str, where: str, life_ms: str) -> None:
    """In a process that is to be killed: open the port, say until when, and stay."""
    gate = setting(kind, Pair(tag), where).make()
    deadline_ns = time.monotonic_ns() + int(life_ms) * MS
    gate.open_until("p", deadline_ns)
    print(deadline_ns, flush=True)
    sys.stdin.read()
