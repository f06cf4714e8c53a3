"""What the simulated controller does to packets: one policy as an nftables table at the host's device, put in whole."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

TX, RX = "0", "1"
_PASSING = ("0", "3")


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy as it is in force: the defaults by direction, and the filters in their order, each with its class."""

    drops: Mapping[str, bool]
    filters: Sequence[tuple[str, Mapping[str, str]]]


class Packets:
    """``device`` is the host's, seen from the fabric: what the host transmits is what comes in by it."""

    def __init__(self, device: str) -> None:
        self._device, self._table = device, f"amt_{device}"

    def enforce(self, rules: Rules | None) -> None:
        """None: no policy is in force, and everything passes."""
        lines = [f"table netdev {self._table}", f"delete table netdev {self._table}"]
        if rules is not None:
            lines.append(f"table netdev {self._table} {{")
            for way, hook in ((TX, "ingress"), (RX, "egress")):
                default = "drop" if rules.drops[way] else "accept"
                lines.append(
                    f'chain {hook} {{ type filter hook {hook} device "{self._device}" priority 0; policy {default};'
                )
                lines += [_rule(*each) for each in rules.filters if each[1]["FilterDirection"] == way]
                lines.append("}")
            lines.append("}")
        subprocess.run(
            ["nft", "-f", "-"], input="\n".join(lines), text=True, check=True, capture_output=True, timeout=20
        )

    def remove(self) -> None:
        subprocess.run(["nft", "delete", "table", "netdev", self._table], check=False, capture_output=True)


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
