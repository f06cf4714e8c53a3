"""The daemons' TOML files as typed values; docs/reference/configuration.md describes every setting.

An unknown setting or a wrong type is refused by name: a daemon must not run with half of what its operator wrote.
"""

from __future__ import annotations

import re
import socket
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from hostward.agent.join_token import check_host_name
from hostward.agent.metrics import NAMED_ENDPOINTS
from hostward.attest.findings import WAIVABLE
from hostward.cli.inspector_configuration import InspectorConfig
from hostward.controller.access import Role
from hostward.controller.access.oidc import Grant, Issuer
from hostward.controller.attestation.settings import AttestationMode, AttestationSettings, GateAddress
from hostward.controller.server import DEFAULT_CHANNEL_PORT, DEFAULT_ENROLMENT_PORT
from hostward.datapath.flow_export import DEFAULT_ENTERPRISE, FlowExportSettings
from hostward.datapath.kernel import DEFAULT_PINS
from hostward.datapath.tables import Capacity, TcpPickup
from hostward.datapath.uplink import UplinkSettings
from hostward.errors import UsageError
from hostward.model.limit import Unit
from hostward.policy.limits import parse_rate

DEFAULT_SOCKET = Path("/run/hostward/api.sock")

_PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^:\[\]]+):\d{1,5}")


class GrantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[api.oidc.grants]]``."""

    value: str
    role: Role
    tenants: list[str] = []


class OidcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[api.oidc]`` table: who signs people in."""

    issuer: str
    audience: str
    grants: list[GrantConfig]
    claim: str = "groups"
    ca: Path | None = None

    def issuer_settings(self) -> Issuer:
        """The same for whoever checks tokens."""
        grants = tuple(Grant(grant.value, grant.role, frozenset(grant.tenants)) for grant in self.grants)
        return Issuer(self.issuer, self.audience, grants, self.claim, self.ca)


class RemoteApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[api]`` table: the API beyond this machine, only ever with TLS and a token."""

    address: str
    port: _PortNumber
    certificate: Path
    key: Path
    token_file: Path | None = None
    oidc: OidcConfig | None = None


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[metrics]`` table: where a Prometheus server may read. ``listen`` is ``HOST:PORT``."""

    listen: str
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None


class AgentMetricsConfig(MetricsConfig, frozen=True, forbid_unknown_fields=True):
    """The same of an agent; ``endpoints`` is how many have series of their own."""

    endpoints: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = NAMED_ENDPOINTS


class GateAddressConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[attestation.gates]]``; ``ports`` names the host behind each of its ports."""

    name: str
    address: str
    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    ports: dict[str, str]


class AttestationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[attestation]`` table of a controller."""

    trust: Path
    mode: AttestationMode = AttestationMode.ENFORCE
    without: list[str] = []
    evidence_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 20.0
    grace_s: Annotated[float, msgspec.Meta(ge=3, le=3_600)] = 60.0
    pulse_s: Annotated[float, msgspec.Meta(ge=1.5, le=60)] = 2.5
    certificate_life_s: Annotated[float, msgspec.Meta(ge=30, le=86_400)] = 300.0
    brake_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.02
    measured: Literal["by a TPM", "software-measured"] = "by a TPM"
    webhooks: list[Annotated[str, msgspec.Meta(pattern="^https?://[!-~]+$")]] = []
    gates: list[GateAddressConfig] = []

    def settings(self) -> AttestationSettings:
        """The same for the controller. Raises UsageError for a rule that nobody may do without."""
        unknown = sorted(set(self.without).difference(WAIVABLE))
        if unknown:
            raise UsageError(
                f"cannot do without {', '.join(unknown)}", subject="attestation.without", hint=", ".join(WAIVABLE)
            )
        if self.certificate_life_s < 3 * self.evidence_s:
            raise UsageError(
                "a certificate has to outlive three times evidence_s", subject="attestation.certificate_life_s"
            )
        life = timedelta(seconds=self.certificate_life_s)
        return AttestationSettings(
            self.trust,
            self.mode,
            frozenset(self.without),
            self.evidence_s,
            self.grace_s,
            self.pulse_s,
            life,
            self.brake_share,
            self.measured,
            tuple(self.webhooks),
        )

    def addresses(self) -> tuple[GateAddress, ...]:
        """The gates."""
        return tuple(GateAddress(gate.name, gate.address, gate.fingerprint, gate.ports) for gate in self.gates)


class ControllerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A controller's file."""

    state: Path = Path("/var/lib/hostward/controller")
    socket: Path = DEFAULT_SOCKET
    address: str = "127.0.0.1"
    channel_port: _PortNumber = DEFAULT_CHANNEL_PORT
    enrolment_port: _PortNumber = DEFAULT_ENROLMENT_PORT
    certificate_life_h: Annotated[float, msgspec.Meta(gt=0, le=24 * 90)] = 24.0
    api: RemoteApiConfig | None = None
    metrics: MetricsConfig | None = None
    devices: dict[str, list[str]] = {}
    attestation: AttestationConfig | None = None


class UplinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device through which a host's endpoints leave it; rates as in a rule, ``10Gbit/s``.

    Without ``downlink`` nobody is told to send less to this host.
    """

    device: Annotated[str, msgspec.Meta(min_length=1, max_length=15)]
    rate: str
    downlink: str = ""

    def settings(self) -> UplinkSettings:
        """The same for the datapath. Raises UsageError if a rate is none of bits."""
        downlink = _bits_per_s("downlink", self.downlink) if self.downlink else 0
        return UplinkSettings(self.device, _bits_per_s("rate", self.rate), downlink_bits_per_s=downlink)


def _bits_per_s(name: str, text: str) -> int:
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise UsageError(str(error), subject=f"uplink.{name}") from None
    if rate.unit is not Unit.BITS:
        raise UsageError("an uplink's rate is in bit/s", subject=f"uplink.{name} = {text}", hint="10Gbit/s")
    return rate.per_s


class AgentAttestationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[attestation]`` table of an agent: where its TPM, its logs and its sentinel are.

    Without ``sentinel`` nobody pulses, and a gate stays closed.
    """

    tcti: str = "device:/dev/tpmrm0"
    boot_log: Path = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
    ima_log: Path = Path("/sys/kernel/security/ima/binary_runtime_measurements")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    sentinel: Path | None = Path("/run/hostward-sentinel/sentinel.sock")
    monitor_pcr: Annotated[int, msgspec.Meta(ge=11, le=15)] = 15
    by_number: bool = False


class ExportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[export]`` table of an agent: collectors, each ``HOST:PORT``; empty: none."""

    sflow: str = ""
    sflow_sub_agent: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0
    ipfix: str = ""
    ipfix_template: Literal["full", "standard"] = "full"
    ipfix_enterprise: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)] = DEFAULT_ENTERPRISE
    ipfix_domain: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 1
    active_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    inactive_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 15.0
    json_lines: Path | None = None
    json_lines_bytes: Annotated[int, msgspec.Meta(ge=4_096)] = 100_000_000
    json_lines_files: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 5
    events_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 250_000

    def flow_records(self) -> FlowExportSettings | None:
        """What the datapath's exporter of flow records is to do; None: nothing."""
        if not self.ipfix and self.json_lines is None:
            return None
        host, _, port = self.ipfix.rpartition(":")
        return FlowExportSettings(
            collector=(host.strip("[]"), int(port)) if self.ipfix else None,
            standard=self.ipfix_template == "standard",
            enterprise=self.ipfix_enterprise,
            domain=self.ipfix_domain,
            active_timeout_s=self.active_timeout_s,
            inactive_timeout_s=self.inactive_timeout_s,
            events_per_s=self.events_per_s,
            json_lines=self.json_lines,
            json_octets=self.json_lines_bytes,
            json_files=self.json_lines_files,
        )


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agent's file. ``controller`` and ``enrolment`` are ``HOST:PORT``."""

    controller: str
    enrolment: str = ""
    token_file: Path | None = None
    name: str = ""
    state: Path = Path("/var/lib/hostward/agent")
    pins: Path = DEFAULT_PINS
    hook: Literal["", "tcx", "clsact"] = ""
    tcp_pickup: TcpPickup = TcpPickup.STRICT
    repair_period_s: Annotated[float, msgspec.Meta(gt=0, le=3_600)] = 2.0
    datapath: Capacity = msgspec.field(default_factory=Capacity)
    uplink: UplinkConfig | None = None
    metrics: AgentMetricsConfig | None = None
    attestation: AgentAttestationConfig | None = None
    inspector: InspectorConfig | None = None
    export: ExportConfig = ExportConfig()


_Config = TypeVar("_Config", bound=msgspec.Struct)


def read_config(path: Path, kind: type[_Config]) -> _Config:
    """Read and check a daemon's file. Raises UsageError with what is wrong in it."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        config = msgspec.convert(values, kind, dec_hook=_path)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", subject=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"this is not TOML: {error}", subject=str(path)) from error
    except msgspec.ValidationError as error:
        hint = f"the settings are {', '.join(kind.__struct_fields__)}"
        raise UsageError(str(error).replace("Object", "It"), subject=str(path), hint=hint) from error
    if isinstance(config, AgentConfig):
        for name, address in (("controller", config.controller), ("enrolment", config.enrolment)):
            if address or name == "controller":
                parse_address(name, address, path)
        for name, address in (("sflow", config.export.sflow), ("ipfix", config.export.ipfix)):
            if address:
                parse_address(f"export.{name}", address, path)
        small = [size for size in Capacity.__slots__ if getattr(config.datapath, size) < 2]
        if small:
            raise UsageError(f"datapath.{small[0]} is too small to hold anything", subject=str(path))
        unknown = set(values.get("datapath", {})) - set(Capacity.__slots__)
        if unknown:
            hint = f"they are {', '.join(Capacity.__slots__)}"
            raise UsageError(f"{sorted(unknown)[0]!r} is no size of the datapath", subject=str(path), hint=hint)
    return config


def parse_address(name: str, text: str, path: Path) -> tuple[str, int]:
    """``HOST:PORT`` of the setting ``name``, an IPv6 address in brackets. Raises UsageError."""
    if not _ADDRESS.fullmatch(text):
        raise UsageError(f"{name} = {text!r} is not HOST:PORT", subject=str(path))
    host, _, port = text.rpartition(":")
    if int(port) > 65_535:
        raise UsageError(f"{name} = {text!r} has no such port", subject=str(path))
    return host.strip("[]"), int(port)


def own_name(given: str) -> str:
    """This host's name: the given one, else the first label of the machine's. Raises EnrolmentError."""
    return check_host_name(given or socket.gethostname().partition(".")[0].lower())


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise msgspec.ValidationError(f"Expected a path, got {value!r}")
