"""What the simulated controller does to packets: one policy as an nftables table at the host's device, put in whole."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

TX, RX = "0", "1"
_PASSING = ("0", "3")


_HOOKS = {TX: "ingress", RX: "egress"}


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy as it is in force: the defaults by direction, and the filters in their order, each with its class."""

    drops: Mapping[str, bool]
    filters: Sequence[tuple[str, Mapping[str, str]]]


class Packets:
    """``device`` is the host's, seen from the fabric: what the host transmits is what comes in by it."""

    def __init__(self, device: str) -> None:
        self._table = f"amt_{device}"
        chains = [
            f'chain {hook} {{ type filter hook {hook} device "{device}" priority 0; policy accept; }}'
            for hook in _HOOKS.values()
        ]
        _nft(f"table netdev {self._table} {{", *chains, "}")

    def enforce(self, rules: Rules | None) -> None:
        """None: no policy is in force, and everything passes.

        The chains stay and their rules are exchanged: a packet sees the old rules or the new ones. Where a chain with a
        hook is exchanged, a packet of a few thousand was seen to pass between two that both drop it.
        """
        lines = []
        for way, hook in _HOOKS.items():
            lines.append(f"flush chain netdev {self._table} {hook}")
            if rules is not None:
                wanted = [_rule(*each) for each in rules.filters if each[1]["FilterDirection"] == way]
                wanted.append("drop" if rules.drops[way] else "accept")
                lines += [f"add rule netdev {self._table} {hook} {rule}" for rule in wanted]
        _nft(*lines)

    def remove(self) -> None:
        subprocess.run(["nft", "delete", "table", "netdev", self._table], check=False, capture_output=True)


def _nft(*lines: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True, capture_output=True, timeout=20)


def _rule(kind: str, fields: Mapping[str, str]) -> str:
    verdict = "accept" if fields["FilterProfile"] in _PASSING else "drop"
    if kind == "AMT_Hdr8021Filter":
        return f"ether type {int(fields['HdrProtocolID8021']):#06x} {verdict}"
    family = "ip" if fields["HdrIPVersion"] == "4" else "ip6"
    words = [f"ether type {family}"]
    for side, name in (("Src", "saddr"), ("Dest", "daddr")):
        if address := fields.get(f"Hdr{side}Address"):
            mask = bytes.fromhex(fields.get(f"Hdr{side}Mask", "FF" * (len(address) // 2)))
            bits = bin(int.from_bytes(mask, "big")).count("1")
            words.append(f"{family} {name} {ip_address(bytes.fromhex(address))}/{bits}")
    if protocol := fields.get("HdrProtocolID"):
        words.append(f"meta l4proto {protocol}")
        for side, name in (("Src", "sport"), ("Dest", "dport")):
            if start := fields.get(f"Hdr{side}PortStart"):
                words.append(f"th {name} {start}-{fields[f'Hdr{side}PortEnd']}")
    return " ".join([*words, verdict])
