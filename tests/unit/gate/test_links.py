"""The kernel's messages about links, and what counts as one that was down."""

from __future__ import annotations

import socket
import struct

import pytest

from hostward.errors import DeviceError
from hostward.gate.links import LinkState, LinkWatch, device_number, parse_links

UP = 0x1 | 0x40
NEW, DEL = 16, 17


def message(ifindex: int, flags: int, lost: int | None = None, kind: int = NEW, family: int = 0) -> bytes:
    attributes = struct.pack("=HH4s", 7, 3, b"p0\0\0") + (b"" if lost is None else struct.pack("=HHI", 8, 48, lost))
    body = struct.pack("=BxHiII", family, 1, ifindex, flags, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def downs(*data: bytes) -> list[str]:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unused:
        watch = LinkWatch(unused, {5: "p"}, told.append)
        for each in data:
            watch.take(each)
    return told


def test_what_a_message_says() -> None:
    data = message(5, UP, 3) + message(6, 1) + message(5, UP, 3, DEL)
    assert list(parse_links(data)) == [
        LinkState(5, True, 3),
        LinkState(6, False, None),
        LinkState(5, False, 3, gone=True),
    ]


def test_a_bridges_own_message_is_none_of_the_links() -> None:
    assert list(parse_links(message(5, 0, family=socket.AF_BRIDGE))) == []


@pytest.mark.parametrize("data", [b"", b"\0" * 40, message(5, UP)[:-1], struct.pack("=IHHII", 8, NEW, 0, 0, 0)])
def test_what_is_cut_off_says_nothing(data: bytes) -> None:
    assert list(parse_links(data)) == []


def test_down_is_told_once_and_again_after_it_was_up() -> None:
    assert downs(message(5, UP, 1), message(5, 1, 2)) == ["p"] * 1
    assert downs(message(5, UP, 1), message(5, 1, 1), message(5, 1, 1)) == ["p"]
    assert downs(message(5, UP, 1), message(5, 1, 1), message(5, UP, 1), message(5, 0, 1)) == ["p", "p"]


def test_a_carrier_that_was_lost_and_is_back_is_told() -> None:
    """The kernel may tell of both changes at once."""
    assert downs(message(5, UP, 1), message(5, UP, 2)) == ["p"]
    assert downs(message(5, UP, 1), message(5, UP, 1), message(5, UP), message(6, 0, 9)) == []


def test_a_device_that_is_away_is_told_and_one_that_never_was_is_an_error() -> None:
    assert downs(message(5, UP, 1), message(5, UP, 1, DEL)) == ["p"]
    assert device_number("", "lo") > 0
    with pytest.raises(DeviceError):
        device_number("", "nowhere0")
