"""The three System Defense policies of a gate on one machine, and the filters of the quarantine profile.

Precedence decides among the enabled ones: `hw-cut` over `hw-quarantine` over `hw-open`. `hw-quarantine` is also the port's
default policy (what is in force when none is enabled, whatever its precedence) and the one that Agent Presence enables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from hostward.errors import UsageError
from hostward.gate.amt.wsman import Reference, WsMan
from hostward.gate.kernel import Allowed

POLICY, IP_FILTER, ETHERNET_FILTER = "AMT_SystemDefensePolicy", "AMT_IPHeadersFilter", "AMT_Hdr8021Filter"
ENABLED, DEFAULT = "AMT_NetworkPortSystemDefensePolicy", "AMT_NetworkPortDefaultSystemDefensePolicy"
PRESENCE = "AMT_AgentPresenceInterfacePolicy"
OPEN, QUARANTINE, CUT = "hw-open", "hw-quarantine", "hw-cut"
_PRECEDENCE = {OPEN: 10, QUARANTINE: 20, CUT: 30}
ETHERNET_PORT = Reference("CIM_EthernetPort", {"DeviceID": "Intel(r) AMT Ethernet Port 0"})

_TX, _RX = "0", "1"
_PASSING = "3"
_ARP, _UDP, _ICMPV6 = 0x0806, 17, 58
# FilterCreationHandles has 62 places, whatever the platform's 80 filters.
_FILTERS_MAX = 62


@dataclass(frozen=True, slots=True)
class Filter:
    """What a policy lets pass although its default is to drop."""

    kind: str
    fields: dict[str, str]


def profile_filters(profile: Iterable[Allowed]) -> list[Filter]:
    """ARP, ICMPv6 (all of it: its types cannot be told apart), DHCP and DHCPv6, and what is allowed. Raises UsageError."""
    filters = [Filter(ETHERNET_FILTER, {"HdrProtocolID8021": str(_ARP), "FilterDirection": way}) for way in (_TX, _RX)]
    filters += [_ip(way, 6, protocol=_ICMPV6) for way in (_TX, _RX)]
    filters += [
        _ip(way, version, protocol=_UDP, port=port) for version, port in ((4, 67), (6, 547)) for way in (_TX, _RX)
    ]
    for allowed in profile:
        version = 4 if isinstance(allowed.prefix, IPv4Network) else 6
        filters += [_ip(way, version, allowed, allowed.protocol, allowed.port) for way in (_TX, _RX)]
    if len(filters) > _FILTERS_MAX:
        raise UsageError(f"the profile needs {len(filters)} filters, and a policy of AMT holds {_FILTERS_MAX}")
    return filters


def _ip(way: str, version: int, allowed: Allowed | None = None, protocol: int = 0, port: int = 0) -> Filter:
    """The far side's address and port: the destination's of what is sent, the source's of what is received."""
    side = "Dest" if way == _TX else "Src"
    fields = {"FilterDirection": way, "HdrIPVersion": str(version)}
    if allowed is not None:
        fields[f"Hdr{side}Address"] = allowed.prefix.network_address.packed.hex().upper()
        fields[f"Hdr{side}Mask"] = allowed.prefix.netmask.packed.hex().upper()
    if protocol:
        fields["HdrProtocolID"] = str(protocol)
    if port:
        fields |= {f"Hdr{side}PortStart": str(port), f"Hdr{side}PortEnd": str(port)}
    return Filter(IP_FILTER, fields)


class Policies:
    """One machine's policies. The methods raise DatapathError."""

    def __init__(self, amt: WsMan) -> None:
        self._amt = amt
        self._named: dict[str, Reference] = {}

    def install(self, filters: Sequence[Filter]) -> None:
        """Make everything anew. The old policies go only once the cut is in force, so nothing passes meanwhile."""
        for policy in self._amt.instances(POLICY):
            if policy["PolicyName"] in _PRECEDENCE:
                self._named[policy["PolicyName"]] = Reference(POLICY, {"InstanceID": policy["InstanceID"]})
        if CUT not in self._named:
            self._create(CUT, [])
        self.enable(CUT)
        for association in (PRESENCE, DEFAULT):
            self._clear(association)
        for name in (OPEN, QUARANTINE):
            if name in self._named:
                self._amt.delete(POLICY, self._named.pop(name).keys)
        for kind in (ETHERNET_FILTER, IP_FILTER):
            for old in list(self._amt.instances(kind)):
                if old.get("Name", "").startswith("hw-"):
                    self._amt.delete(kind, {"InstanceID": old["InstanceID"]})
        handles = [self._filter(number, each) for number, each in enumerate(filters)]
        self._create(OPEN, [])
        self._create(QUARANTINE, handles)
        for association in (DEFAULT, PRESENCE):
            self._bind(association, QUARANTINE)

    def enable(self, name: str) -> None:
        """Make a policy the one that System Defense enables on the port, instead of whichever it was."""
        self._clear(ENABLED)
        self._bind(ENABLED, name)

    def disable(self) -> None:
        """Back to the default policy, which is the quarantine."""
        self._clear(ENABLED)

    def enabled(self) -> str:
        """The name of the policy that System Defense enables, empty if none."""
        held = {each["InstanceID"] for each in self._amt.instances(ENABLED)}
        return next((name for name, policy in self._named.items() if policy.keys["InstanceID"] in held), "")

    def limit_open(self, seconds: int) -> None:
        """How long the open policy is in force from now on; 0: for ever."""
        self._amt.invoke(POLICY, self._named[OPEN].keys, "SetTimeout", {"Timeout": str(seconds)})

    def _create(self, name: str, handles: Sequence[str]) -> None:
        drop = "false" if name == OPEN else "true"
        fields: dict[str, str | Sequence[str]] = {"InstanceID": "0", "PolicyName": name}
        fields |= {
            "PolicyPrecedence": str(_PRECEDENCE[name]),
            "AntiSpoofingSupport": "0",
            "FilterCreationHandles": handles,
        }
        for way in ("Tx", "Rx"):
            fields |= {f"{way}DefaultDrop": drop, f"{way}DefaultMatchEvent": "false", f"{way}DefaultCount": "false"}
        self._named[name] = Reference(POLICY, {"InstanceID": self._amt.create(POLICY, fields)["InstanceID"]})

    def _filter(self, number: int, wanted: Filter) -> str:
        unused = dict.fromkeys(("InstanceID", "CreationClassName", "SystemName", "SystemCreationClassName"), "0")
        fields = unused | {"Name": f"hw-{number}", "FilterProfile": _PASSING, "ActionEventOnMatch": "false"}
        return self._amt.create(wanted.kind, fields | wanted.fields)["InstanceID"]

    def _bind(self, association: str, name: str) -> None:
        self._amt.create(association, {"Antecedent": ETHERNET_PORT, "Dependent": self._named[name]})

    def _clear(self, association: str) -> None:
        """On this port; another's stay."""
        for held in list(self._amt.instances(association)):
            if held.get("DeviceID") == ETHERNET_PORT.keys["DeviceID"]:
                policy = Reference(POLICY, {"InstanceID": held["InstanceID"]})
                self._amt.delete(association, {"Antecedent": ETHERNET_PORT, "Dependent": policy})
