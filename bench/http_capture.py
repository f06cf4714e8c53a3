"""A capture of plaintext HTTP, made from a seed: what `bench --only inspect` reads, the same on every machine.

20,000 connections of three requests each; answers of 2 to 19 KB of text that compresses badly, whole segments of 1,448
bytes, an acknowledgement for every second one. About 711 MB and 920,000 packets at full size.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

CONNECTIONS, REQUESTS = 20_000, 3
_SEGMENT = 1_448
_AT_ONCE = 64  # connections whose packets are mixed
_WORDS = 4_096


def write(path: Path, connections: int = CONNECTIONS, seed: int = 1) -> int:
    """Write it; the number of packets. Raises OSError."""
    draw = random.Random(seed)
    text = _text(draw)
    packets = 0
    micros = 1_700_000_000_000_000
    partial = path.with_suffix(".part")
    with partial.open("wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for first in range(0, connections, _AT_ONCE):
            live = [_connection(draw, text, n) for n in range(first, min(first + _AT_ONCE, connections))]
            while live:
                for connection in tuple(live):
                    frame = next(connection, None)
                    if frame is None:
                        live.remove(connection)
                        continue
                    micros += 4
                    file.write(struct.pack("<IIII", micros // 1_000_000, micros % 1_000_000, len(frame), len(frame)))
                    file.write(frame)
                    packets += 1
    partial.rename(path)
    return packets


def _text(draw: random.Random) -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 11))) for _ in range(_WORDS)]
    return (" ".join(draw.choices(words, k=200_000)) + "\n").encode()


def _connection(draw: random.Random, text: bytes, number: int) -> Iterator[bytes]:
    ends = (
        bytes([10, 1 + (number >> 16), (number >> 8) & 255, number & 255]),
        bytes([10, 200, 0, 1 + number % 50]),
    )
    ports = (1_024 + number % 60_000, 80)
    at = [draw.getrandbits(32), draw.getrandbits(32)]

    def frame(side: int, flags: int, data: bytes = b"") -> bytes:
        sequence, at[side] = at[side], (at[side] + len(data) + (flags & 3 > 0)) & 0xFFFF_FFFF
        acknowledged = at[1 - side] if flags & 16 else 0
        tcp = struct.pack(">HHIIBBHHH", ports[side], ports[1 - side], sequence, acknowledged, 80, flags, 65_535, 0, 0)
        ip = struct.pack(">BBHHHBBH", 69, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + ends[side] + ends[1 - side]
        macs = (b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")
        return macs[1 - side] + macs[side] + b"\x08\0" + ip + tcp + data

    yield frame(0, 2)
    yield frame(1, 18)
    yield frame(0, 16)
    for request in range(REQUESTS):
        path = f"/{draw.choice(('api', 'static', 'img', 'shop'))}/{draw.getrandbits(40):x}/item-{request}.html"
        yield frame(
            0,
            24,
            f"GET {path}?id={draw.getrandbits(24)} HTTP/1.1\r\nHost: www{number % 97}.example.com\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,*/*;q=0.8\r\n"
            f"Accept-Language: en\r\nCookie: session={draw.getrandbits(96):x}\r\nConnection: keep-alive\r\n\r\n".encode(),
        )
        size = draw.randint(2_000, 19_000)
        start = draw.randrange(len(text) - size)
        head = (
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {size}\r\nCache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n"
        )
        answer = head.encode() + text[start : start + size]
        for count, offset in enumerate(range(0, len(answer), _SEGMENT)):
            yield frame(1, 16, answer[offset : offset + _SEGMENT])
            if count % 2:
                yield frame(0, 16)
        yield frame(0, 16)
    yield frame(0, 17)
    yield frame(1, 17)
    yield frame(0, 16)
