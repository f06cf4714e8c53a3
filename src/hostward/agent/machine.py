"""The machine's own addresses, as the peer `host`: only the machine knows them, so they are added here and never sent.

The slice that the controller meant stays as it is, with its digest, on the channel and on disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hostward.model.slice import IDENTITY_HOST, HostSlice, PrefixKey


def with_machine(desired: HostSlice, addresses: Iterable[str]) -> HostSlice:
    """The slice in which the ``addresses`` are the machine's, in every network, but for those that an endpoint has there.

    An endpoint's address stays the endpoint's, wherever it lives: nobody loses a rule because a machine takes its address.
    """
    taken = {(e.network, address) for e in desired.endpoints.values() for address in e.addresses}
    own: dict[PrefixKey, int] = {}
    for network in desired.networks:
        for address in addresses:
            key = (network, f"{address}/{128 if ':' in address else 32}")
            if key not in desired.addresses and (network, address) not in taken:
                own[key] = IDENTITY_HOST
    return replace(desired, addresses={**desired.addresses, **own}) if own else desired
