"""Reference values: signed files, alternatives, windows, grace."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from bench.attester import NOW
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.attest.components import Component
from hostward.attest.reference import FORMAT, Standing, Window, read_reference, verify_reference
from hostward.errors import EvidenceError

DIGEST = "00" * 32


def document(**more: Any) -> bytes:
    return json.dumps({"format": FORMAT, **more}).encode()


def test_only_a_key_that_may_signs() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    content = document()
    verify_reference(content, key.sign(content), [other.public_key(), key.public_key()])
    for signature in (other.sign(content), key.sign(content + b" "), b"", bytes(64)):
        with pytest.raises(EvidenceError, match="signed by none of the keys"):
            verify_reference(content, signature, [key.public_key()])


def test_files_add_up() -> None:
    one = document(
        components={"firmware": [{"label": "a", "digests": {"sha256": [DIGEST]}}]}, files={"/x": [f"sha256:{DIGEST}"]}
    )
    two = document(
        components={"firmware": [{"label": "b", "digests": {"sha256": []}}]}, tolerated=[{"path": "/tmp/*", "why": "w"}]
    )
    reference = read_reference([one, two])
    assert [each.label for each in reference.parts[Component.FIRMWARE]] == ["a", "b"]
    assert ("/x", "sha256", bytes(32)) in reference.files
    assert reference.tolerates("/tmp/y") == "w"
    assert reference.tolerates("/y") == ""
    assert reference.digest == read_reference([two, one]).digest != read_reference([one]).digest


@pytest.mark.parametrize(
    ("window", "standing"),
    [
        (Window(), Standing.CURRENT),
        (Window(since=NOW + timedelta(1)), Standing.NOT_YET),
        (Window(until=NOW - timedelta(1)), Standing.OVER),
        (Window(replaced=NOW + timedelta(1)), Standing.CURRENT),
        (Window(replaced=NOW - timedelta(1), grace=timedelta(2)), Standing.SUPERSEDED),
        (Window(replaced=NOW - timedelta(2), grace=timedelta(2)), Standing.OVER),
    ],
)
def test_windows_and_grace(window: Window, standing: Standing) -> None:
    assert window.standing(NOW) is standing


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        document(other=1),
        document(components={"nothing": []}),
        document(components={"firmware": [{"digests": {"sha256": ["00"]}}]}),
        document(components={"firmware": [{"digests": {"md5": [DIGEST]}}]}),
        document(components={"firmware": [{"digests": {}, "form": "x"}]}),
        document(components={"firmware": [{"digests": {}, "from": "2026-11-28T00:00:00"}]}),
        document(components={"firmware": [{"digests": {}, "from": "soon"}]}),
        document(files={"/x": ["sha1:" + "00" * 20]}),
        document(files={"/x": ["sha256"]}),
        document(files={"/x": 1}),
        document(tolerated=[{"path": "/x"}]),
        document(grace_s="long"),
    ],
)
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError, match="reference values"):
        read_reference([content])
