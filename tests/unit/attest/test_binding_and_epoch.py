"""What a quote is bound to, and that older things are refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from hostward.attest.binding import Binding
from hostward.attest.epoch import Epoch, advance
from hostward.attest.quote import Clock
from hostward.errors import EvidenceError

NONCE = bytes(range(32))
BINDING = Binding(b"tls", b"pulse", b"encryption", b"boot", 7, {"b": bytes(32), "a": b"\1" * 32}, {"x": b"\2" * 32})


def test_the_encoding_is_the_documented_one() -> None:
    """Written out by hand: whoever implements the host's side has this to compare with (docs/adr/0021)."""
    fields = (
        NONCE,
        b"tls",
        b"pulse",
        b"encryption",
        b"boot",
        b"\0\0\0\0\0\0\0\7",
        b"\1a" + b"\1" * 32 + b"\1b" + bytes(32),
        b"\1x" + b"\2" * 32,
    )
    encoded = b"hostward binding 1\0" + b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert BINDING.qualifying_data(NONCE) == hashlib.sha256(encoded).digest()


def test_every_field_counts() -> None:
    changed = [
        replace(BINDING, tls_key=b"other"),
        replace(BINDING, pulse_key=b"other"),
        replace(BINDING, encryption_key=b"other"),
        replace(BINDING, boot_id=b"other"),
        replace(BINDING, revision=8),
        replace(BINDING, programs={"a": bytes(32)}),
        replace(BINDING, programs={"a": bytes(32), "b": b"\1" * 32}),
        replace(BINDING, policies={}),
        replace(BINDING, tls_key=b"tlsp", pulse_key=b"ulse"),  # the boundary between two fields counts, too
    ]
    digests = {each.qualifying_data(NONCE) for each in [BINDING, *changed]} | {BINDING.qualifying_data(NONCE[::-1])}
    assert len(digests) == len(changed) + 2


@pytest.mark.parametrize(
    ("binding", "nonce", "why"),
    [
        (BINDING, bytes(15), "nonce of 15 bytes"),
        (BINDING, bytes(65), "nonce of 65 bytes"),
        (replace(BINDING, revision=-1), NONCE, "revision -1"),
        (replace(BINDING, revision=1 << 64), NONCE, "not one of 64 bits"),
        (replace(BINDING, programs={"": bytes(32)}), NONCE, "has no name"),
        (replace(BINDING, programs={"a": bytes(31)}), NONCE, "no SHA-256 digest"),
        (replace(BINDING, policies={"n" * 256: bytes(32)}), NONCE, "policy"),
        (replace(BINDING, policies={str(n): bytes(32) for n in range(4097)}), NONCE, "4097 digests"),
    ],
)
def test_what_cannot_be_bound_is_refused(binding: Binding, nonce: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        binding.qualifying_data(nonce)


def epoch(clock_ms: int = 100, resets: int = 5, restarts: int = 2, boot_id: bytes = b"b", revision: int = 9) -> Epoch:
    return Epoch(b"ak", Clock(clock_ms, resets, restarts, True), boot_id, revision)


def test_a_boot_goes_on_or_another_begins() -> None:
    assert advance(None, epoch()) is True
    assert advance(epoch(), epoch(clock_ms=101)) is False
    assert advance(epoch(), epoch(clock_ms=101, restarts=3)) is False  # it slept
    assert advance(epoch(), epoch(clock_ms=3, resets=6, restarts=0, boot_id=b"c")) is True
    assert advance(epoch(), replace(epoch(resets=1), ak_name=b"another, which was activated")) is True


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (epoch(resets=4, boot_id=b"a"), "boot 4, and boot 5 was seen"),
        (epoch(restarts=1), "restart 1, and restart 2 was seen"),
        (epoch(clock_ms=99), "clock is 99 ms, and 100 ms was seen"),
        (epoch(revision=8), "revision 8, and it enforced 9 before"),
        (epoch(resets=6), "TPM was started anew .* and the machine was not"),
        (epoch(clock_ms=101, boot_id=b"c"), "kernel was started anew, and the TPM was not"),
        (epoch(resets=6, boot_id=b"c", revision=8), "revision 8"),
    ],
)
def test_older_and_inconsistent_epochs_are_refused(now: Epoch, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        advance(epoch(), now)
