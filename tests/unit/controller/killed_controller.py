"""A controller that makes changes until it is killed, and prints the number of each that was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hostward.controller.server import ControllerServer, ControllerSettings


def policy_text(revision: int) -> str:
    """The policy of a revision: a function of its number, long enough to fill several pages."""
    padding = "# 0123456789abcdef0123456789abcdef\n" * (revision % 50 * 10)
    rule = f"rules: [allow internet to web on tcp/{revision % 60_000 + 1}]\n"
    return f"tenant: acme\n{padding}groups: {{web: role=web}}\n{rule}"


async def change(state: Path) -> None:
    """Apply one policy after the other for ever."""
    controller = await ControllerServer(ControllerSettings(state, "127.0.0.1", 0, 0)).start()
    while True:
        revision = controller.ledger.state.revision + 1
        rollout = await controller.apply([("acme.yaml", policy_text(revision).encode())], "stream")
        print(rollout.revision, flush=True)


if __name__ == "__main__":
    asyncio.run(change(Path(sys.argv[1])))
