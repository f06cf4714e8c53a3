"""What a lab file says: hosts, endpoints, nodes outside, policy. Reads and checks; builds nothing.

```yaml
lab: three-tier
policy: [platform.yaml, acme.yaml]        # beside this file
hosts: [h1, h2]
endpoints:
  acme/web: {host: h1, labels: {role: web}, addresses: [10.1.0.1, "fd00:1::1"]}
  acme/app: {host: h2, labels: {role: app}, addresses: [10.1.0.2, "fd00:1::2"], kind: vm}
outside:
  internet: [198.51.100.10, "2001:db8:17::10"]
agent: agent.toml                         # beside this file: what every agent is told besides, if anything
attestation: enforce                      # which is so where nothing is said; or audit, or off: no TPMs and no gates
```
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping as Map
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hostward.errors import PolicyError, Problem, UsageError
from hostward.policy.yaml_tree import Mapping, Problems, Scalar, Sequence, Tree, load

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
# IFNAMSIZ less the terminating byte
_DEVICE_NAME_LEN = 15
MAX_HOSTS = 200
# Each of these has a gate on the management network too.
MAX_ATTESTED_HOSTS = 90


class LabAttestation(Enum):
    """Whether the hosts have TPMs, sentinels and gates, and what the gates do."""

    OFF = "off"
    AUDIT = "audit"
    ENFORCE = "enforce"


class Kind(Enum):
    """What a lab endpoint is made of."""

    NAMESPACE = "namespace"
    VM = "vm"


@dataclass(frozen=True, slots=True)
class LabEndpoint:
    """An endpoint of the file. ``device`` is the name of its port on its host."""

    tenant: str
    name: str
    host: str
    labels: Map[str, str]
    addresses: tuple[str, ...]
    mac: str
    kind: Kind
    device: str

    @property
    def id(self) -> str:
        """``tenant/name``."""
        return f"{self.tenant}/{self.name}"

    def address(self, family: int) -> str:
        """The first address of a family (4 or 6)."""
        return next(a for a in self.addresses if ipaddress.ip_address(a).version == family)


@dataclass(frozen=True, slots=True)
class OutsideNode:
    """A machine on the fabric that Hostward knows nothing of."""

    name: str
    addresses: tuple[str, ...]
    mac: str

    def address(self, family: int) -> str:
        """The first address of a family (4 or 6)."""
        return next(a for a in self.addresses if ipaddress.ip_address(a).version == family)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab file."""

    name: str
    policy: tuple[Path, ...]
    hosts: tuple[str, ...]
    endpoints: Map[str, LabEndpoint]
    outside: Map[str, OutsideNode]
    attestation: LabAttestation = LabAttestation.ENFORCE
    agent: str = ""


def read_topology(path: Path) -> Topology:
    """Read a lab file. Raises PolicyError with the place of every mistake, UsageError if the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", subject=str(path)) from error
    return parse_topology(str(path), content)


def parse_topology(file: str, content: bytes) -> Topology:
    """Parse a lab file; policy files are sought beside it. Raises PolicyError."""
    documents, found = load(file, content)
    if found:
        raise PolicyError(tuple(found))
    if len(documents) != 1:
        raise PolicyError((Problem(file, 0, 0, "a lab file is one document", "remove the '---'"),))
    return _Reader(file).read(documents[0])


class _Reader:
    def __init__(self, file: str) -> None:
        self._problems = Problems(file)
        self._folder = Path(file).parent
        self._used: dict[str, str] = {}

    def read(self, document: Mapping) -> Topology:
        self._only(document, "lab", "policy", "hosts", "endpoints", "outside", "agent", "attestation")
        name = self._name(self._need(document, "lab"), "the lab's name")
        policy = tuple(self._folder / text.text for text in self._list(document.items.get("policy")))
        for text in self._list(document.items.get("policy")):
            if not (self._folder / text.text).is_file():
                self._problems.add(text.place, f"there is no file {text.text} beside the lab file")
        scalars = self._list(self._need(document, "hosts"))
        hosts = tuple(self._name(host, "a host's name") for host in scalars)
        if len(set(hosts)) != len(hosts) or not 1 <= len(hosts) <= MAX_HOSTS:
            self._problems.add(document.place, f"a lab has 1 to {MAX_HOSTS} hosts, each named once")
        endpoints = {
            key: endpoint
            for index, (key, tree) in enumerate(self._entries(document, "endpoints"))
            if (endpoint := self._endpoint(document, index, key, tree, hosts)) is not None
        }
        outside = {
            key: self._outside(index, key, tree) for index, (key, tree) in enumerate(self._entries(document, "outside"))
        }
        attestation, agent = self._attestation(document, len(hosts)), self._agent(document)
        if self._problems.found:
            raise PolicyError(tuple(sorted(self._problems.found, key=lambda p: (p.line, p.column))))
        return Topology(name, policy, hosts, endpoints, outside, attestation, agent)

    def _agent(self, document: Mapping) -> str:
        tree = document.items.get("agent")
        if tree is None:
            return ""
        path = self._folder / tree.text if isinstance(tree, Scalar) else self._folder
        try:
            return path.read_text(encoding="utf-8").replace("{lab}", str(self._folder.resolve()))
        except (OSError, UnicodeDecodeError):
            self._problems.add(tree.place, f"there is no file {path.name} beside the lab file", "write one file's name")
            return ""

    def _attestation(self, document: Mapping, hosts: int) -> LabAttestation:
        tree = document.items.get("attestation")
        known = {mode.value: mode for mode in LabAttestation}
        place, mode = document.place, LabAttestation.ENFORCE
        if tree is not None:
            if not isinstance(tree, Scalar) or tree.text not in known:
                self._problems.add(tree.place, "this is no mode of attestation", f"write one of {', '.join(known)}")
                return mode
            place, mode = tree.place, known[tree.text]
        if mode is not LabAttestation.OFF and hosts > MAX_ATTESTED_HOSTS:
            most = f"a lab with gates has at most {MAX_ATTESTED_HOSTS} hosts"
            self._problems.add(place, most, "write `attestation: off` for one without TPMs and gates")
        return mode

    def _endpoint(
        self, document: Mapping, index: int, key: str, tree: Tree, hosts: tuple[str, ...]
    ) -> LabEndpoint | None:
        tenant, slash, name = key.partition("/")
        if not slash or not _NAME.fullmatch(tenant) or not _NAME.fullmatch(name):
            self._problems.add(tree.place, f"{key!r} is no endpoint", "write TENANT/NAME of a-z, 0-9 and -")
            return None
        if not isinstance(tree, Mapping):
            self._problems.add(tree.place, "an endpoint is a mapping", "write {host: …, labels: {…}, addresses: […]}")
            return None
        self._only(tree, "host", "labels", "addresses", "mac", "kind")
        host = self._need(tree, "host")
        if isinstance(host, Scalar) and host.text not in hosts:
            self._problems.add(host.place, f"there is no host {host.text!r}", f"the hosts are {', '.join(hosts)}")
        labels = tree.items.get("labels")
        if labels is not None and not isinstance(labels, Mapping):
            self._problems.add(labels.place, "labels are a mapping", "write {role: web}")
        kind = tree.items.get("kind")
        if kind is not None and (not isinstance(kind, Scalar) or kind.text not in {k.value for k in Kind}):
            self._problems.add(kind.place, "an endpoint is a namespace or a vm")
            kind = None
        plain = f"{tenant}-{name}"
        return LabEndpoint(
            tenant,
            name,
            host.text if isinstance(host, Scalar) else "",
            {k: v.text for k, v in labels.items.items() if isinstance(v, Scalar)}
            if isinstance(labels, Mapping)
            else {},
            self._addresses(self._need(tree, "addresses")),
            self._mac(tree.items.get("mac"), f"02:10:00:00:{index >> 8:02x}:{index & 255:02x}"),
            Kind(kind.text) if isinstance(kind, Scalar) else Kind.NAMESPACE,
            plain if len(plain) <= _DEVICE_NAME_LEN else f"port{index}",
        )

    def _outside(self, index: int, key: str, tree: Tree) -> OutsideNode:
        if not _NAME.fullmatch(key):
            self._problems.add(tree.place, f"{key!r} cannot be a node's name", "use a-z, 0-9 and -")
        return OutsideNode(key, self._addresses(tree), f"02:20:00:00:00:{index & 255:02x}")

    def _addresses(self, tree: Tree | None) -> tuple[str, ...]:
        found: list[str] = []
        for text in self._list(tree):
            try:
                address = str(ipaddress.ip_address(text.text))
            except ValueError:
                self._problems.add(text.place, f"{text.text!r} is no IP address", "write it without a prefix length")
                continue
            if address in self._used:
                self._problems.add(text.place, f"{address} is given twice", f"it stands first {self._used[address]}")
            self._used[address] = f"in line {text.place.line}"
            found.append(address)
        return tuple(found)

    def _mac(self, tree: Tree | None, default: str) -> str:
        if tree is None:
            return default
        if not isinstance(tree, Scalar) or not _MAC.fullmatch(tree.text.lower()):
            self._problems.add(tree.place, "this is no MAC address", "write 02:00:00:00:00:01")
            return default
        return tree.text.lower()

    def _entries(self, document: Mapping, key: str) -> list[tuple[str, Tree]]:
        tree = document.items.get(key)
        if tree is None:
            return []
        if not isinstance(tree, Mapping):
            self._problems.add(tree.place, f"{key} are a mapping by name")
            return []
        return list(tree.items.items())

    def _list(self, tree: Tree | None) -> list[Scalar]:
        if tree is None:
            return []
        items = tree.items if isinstance(tree, Sequence) else (tree,)
        for item in items:
            if not isinstance(item, Scalar):
                self._problems.add(item.place, "a plain value belongs here")
        return [item for item in items if isinstance(item, Scalar)]

    def _name(self, tree: Tree | None, what: str) -> str:
        if tree is None:
            return ""
        if not isinstance(tree, Scalar) or not _NAME.fullmatch(tree.text):
            self._problems.add(tree.place, f"this cannot be {what}", "use 1-32 of a-z, 0-9 and -")
            return ""
        return tree.text

    def _need(self, mapping: Mapping, key: str) -> Tree | None:
        if key not in mapping.items:
            self._problems.add(mapping.place, f"{key!r} is missing")
        return mapping.items.get(key)

    def _only(self, mapping: Mapping, *known: str) -> None:
        for key, scalar in mapping.keys.items():
            if key not in known:
                self._problems.add(scalar.place, f"{key!r} is not known here", f"the keys are {', '.join(known)}")
