"""IMA's list as text (ascii_runtime_measurements), turned into the binary form, so that one reader decides.

Text cannot carry every name: the kernel writes spaces as underscores before it hashes, but a line feed in a name breaks a
line. Such a list is refused by its template hash; send the binary form.
"""

from __future__ import annotations

import re

from hostward.attest.ima import MOST_BYTES, PCR
from hostward.errors import EvidenceError

_MOST_LINE = 16 << 10
_LINE = re.compile(
    rb"(?P<pcr>\d{1,2}) +(?P<hash>[0-9a-f]{40}) (?P<name>ima-ng|ima-sig|ima-ngv2|ima-sigv2)"
    rb" (?P<algorithm>[a-z0-9:-]+):(?P<digest>[0-9a-f]*) (?P<path>[^ ]*)(?: (?P<signature>[0-9a-f]*))?"
)


def looks_like_text(data: bytes) -> bool:
    """Whether a list is text: the binary form begins with the PCR's number in four bytes, three of them zero."""
    return bool(re.match(rb" ?\d{1,2} +[0-9a-f]{40} ", data[:64]))


def binary_form(data: bytes) -> bytes:
    """The same list in the binary form. Raises EvidenceError with the offset of the line."""
    if len(data) > 2 * MOST_BYTES:
        raise EvidenceError(f"the IMA list is longer than {2 * MOST_BYTES} bytes", offset=2 * MOST_BYTES)
    out: list[bytes] = []
    offset = 0
    while offset < len(data):
        end = data.find(b"\n", offset, offset + _MOST_LINE)
        if end < 0 and len(data) - offset > _MOST_LINE:
            raise EvidenceError(f"a line of more than {_MOST_LINE} bytes", offset=offset)
        end = len(data) if end < 0 else end
        out.append(_entry(data[offset:end], offset))
        offset = end + 1
    return b"".join(out)


def _entry(line: bytes, offset: int) -> bytes:
    found = _LINE.fullmatch(line.lstrip(b" "))
    if found is None or int(found["pcr"]) != PCR or len(found["digest"]) % 2 or len(found["signature"] or b"") % 2:
        raise EvidenceError("no line of ima-ng or ima-sig", offset=offset)
    fields = [
        found["algorithm"] + b":\0" + bytes.fromhex(found["digest"].decode()),
        found["path"] + b"\0",
    ]
    if found["name"].startswith(b"ima-sig"):
        fields.append(bytes.fromhex((found["signature"] or b"").decode()))
    body = b"".join(len(each).to_bytes(4, "little") + each for each in fields)
    name = found["name"]
    head = PCR.to_bytes(4, "little") + bytes.fromhex(found["hash"].decode()) + len(name).to_bytes(4, "little") + name
    return head + len(body).to_bytes(4, "little") + body
