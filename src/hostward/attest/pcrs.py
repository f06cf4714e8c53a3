"""PCR values that logs explain, compared with the one digest that a quote signs.

Values that a host reports of its own are worth nothing, and comparing them one by one with a log races with extensions.
So values are rebuilt from logs, and the prefix of the IMA list is sought whose value gives the quoted digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostward.attest.algorithms import STRONG, Hash
from hostward.attest.ima import PCR as IMA_PCR
from hostward.attest.quote import PcrSelection
from hostward.errors import EvidenceError

_ONES = range(17, 23)  # all ones until a dynamic launch
# Anybody on the host may reset these (PC Client Platform TPM Profile, 4.6.2): they prove nothing.
RESETTABLE = frozenset({16, 23})


def appraised_bank(selection: Sequence[PcrSelection], needed: frozenset[int]) -> Hash:
    """The bank whose events are judged: the first strong one with every PCR that is needed. Raises EvidenceError."""
    if not selection:
        raise EvidenceError("the quote is over no PCR: its selection is empty")
    strong = [each for each in selection if each.bank.algorithm in STRONG]
    if not strong:
        raise EvidenceError(f"the quote is over {' and '.join(map(str, selection))}: a bank that is too weak")
    for each in strong:
        if needed.issubset(each.pcrs):
            return each.bank
    lacking = ", ".join(map(str, sorted(needed.difference(strong[0].pcrs))))
    raise EvidenceError(f"the quote is over {strong[0]} and lacks PCR {lacking}, which the logs speak of")


def explained_prefix(
    digest: bytes,
    signed_by: Hash,
    selection: Sequence[PcrSelection],
    logged: Mapping[str, Mapping[int, bytes]],
    ima: Mapping[str, Sequence[bytes]],
) -> int | None:
    """How many IMA entries after the checkpoint the quoted digest covers; None if no prefix of the list explains it.

    ``logged`` are values by bank, ``ima`` what PCR 10 held before the first entry and after each, by bank. The longest
    prefix is tried first: most quotes are made soon before the list was read, and lists may be long.
    """
    fixed: list[bytes] = [b""]  # values in the order that the TPM hashes them, cut where PCR 10 stands
    moving: list[Sequence[bytes]] = []
    for each in selection:
        values, running = logged.get(each.bank.name, {}), ima.get(each.bank.name)
        for pcr in each.pcrs:
            if pcr == IMA_PCR and running:
                moving.append(running)
                fixed.append(b"")
            else:
                fixed[-1] += _value(each.bank, pcr, values)
    new = signed_by.new
    for count in range(len(moving[0]) - 1, -1, -1) if moving else (0,):
        whole = fixed[0]
        for running, after in zip(moving, fixed[1:], strict=True):
            whole += running[count] + after
        if new(whole).digest() == digest:
            return count
    return None


def _value(bank: Hash, pcr: int, logged: Mapping[int, bytes]) -> bytes:
    found = logged.get(pcr)
    if found is not None:
        return found
    return b"\xff" * bank.size if pcr in _ONES else bytes(bank.size)
