"""Runs in a guest: sends numbered datagrams without end, and says in each how many answers have come.

`python talk.py NAME FROM TO PORT`; how many were sent stands in `/run/talk-NAME`. It needs nothing but the interpreter.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

PERIOD_S = 0.02


def main(name: str, source: str, to: str, port: int) -> None:
    """Until the machine ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker, open(f"/run/talk-{name}", "w") as told:
        talker.bind((source, 0))
        talker.setblocking(False)
        sent = answered = 0
        while True:
            with contextlib.suppress(OSError):  # no neighbour answers, or the port is down: what this is about
                talker.sendto(f"{name} {sent} {answered}".encode(), (to, port))
            sent += 1
            with contextlib.suppress(OSError):
                talker.recv(64)
                answered += 1
            told.seek(0)
            told.write(f"{sent}\n")
            told.flush()
            time.sleep(PERIOD_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
