"""A small lab for real: what it builds works, what it denies does not arrive, and nothing of it stays."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.errors import ConflictError
from hostward.lab import frames
from hostward.lab.host import enter_host
from hostward.lab.inside import packet_socket, socket_in
from hostward.lab.lab import Lab, bring_up, prepare
from hostward.lab.state import BPFFS, load_state, tear_down
from hostward.lab.traffic import DENIED_LIMIT_S, EchoServers, Probe, ping

pytestmark = pytest.mark.netns

TOPOLOGY = """\
lab: {name}
policy: [platform.yaml, acme.yaml]
hosts: [h1, h2]
attestation: off
endpoints:
  acme/web: {{host: h1, labels: {{role: web}}, addresses: [10.1.0.1, "fd00:1::1"]}}
  acme/app: {{host: h2, labels: {{role: app}}, addresses: [10.1.0.2, "fd00:1::2"]}}
"""
PLATFORM = 'platform:\n  networks:\n    default: {pools: [10.0.0.0/8, "fd00::/8"]}\n'
ACME = "tenant: acme\ngroups: {web: role=web, app: role=app}\nrules: [allow web to app on tcp/8080]\n"


@pytest.fixture
def lab_file(tmp_path: Path) -> Iterator[Path]:
    """A lab file with a name of its own; whatever was made from it is taken down."""
    name = f"t{secrets.token_hex(3)}"
    for file, text in (("lab.yaml", TOPOLOGY.format(name=name)), ("platform.yaml", PLATFORM), ("acme.yaml", ACME)):
        (tmp_path / file).write_text(text)
    yield tmp_path / "lab.yaml"
    if Path(f"/run/hostward-lab/{name}/state.json").exists():
        tear_down(load_state(name))


@pytest.fixture
def undefended(lab_file: Path) -> Iterator[Lab]:
    """The lab without Hostward, its ports forced up."""
    lab = prepare(lab_file)
    lab.build()
    lab.force_ports("up")
    yield lab
    lab.close()


def namespace(lab: Lab, name: str) -> str:
    return f"/run/netns/{lab.namespace_of(lab.endpoint(name))}"


def test_the_kernel_accepts_the_checksums_of_our_frames(undefended: Lab) -> None:
    web, app = undefended.endpoint("acme/web"), undefended.endpoint("acme/app")
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        source, target = web.address(version), app.address(version)
        kind = frames.ETHERTYPE_IPV4 if version == 4 else frames.ETHERTYPE_IPV6
        nonce = secrets.token_bytes(9)
        with (
            socket_in(namespace(undefended, app.id), family, socket.SOCK_DGRAM) as receiver,
            packet_socket(namespace(undefended, web.id), "eth0") as wire,
        ):
            receiver.bind((target, 7000))
            receiver.settimeout(5)
            packet = frames.ip(source, target, frames.UDP, frames.udp(source, target, (7001, 7000), nonce))
            wire.send(frames.ethernet(web.mac, app.mac, kind, packet))
            assert receiver.recv(100) == nonce
        body = struct.pack("!HH", 1, 1) + nonce
        echo = frames.icmp(8, body) if version == 4 else frames.icmpv6(source, target, 128, body)
        with packet_socket(namespace(undefended, web.id), "eth0") as wire:
            wire.settimeout(5)
            protocol = frames.ICMP if version == 4 else frames.ICMPV6
            wire.send(frames.ethernet(web.mac, app.mac, kind, frames.ip(source, target, protocol, echo)))
            replies = iter(lambda: wire.recvfrom(2048), None)
            assert any(nonce in data and origin[2] != socket.PACKET_OUTGOING for data, origin in replies)


def test_without_hostward_everything_passes(undefended: Lab) -> None:
    web, app = undefended.endpoint("acme/web"), undefended.endpoint("acme/app")
    for version in (4, 6):
        assert ping(namespace(undefended, web.id), web.address(version), app.address(version), secrets.token_bytes(8))


def test_a_host_has_neither_the_rights_nor_the_sight_to_leave(undefended: Lab) -> None:
    state = undefended.state
    holder = state.holders["h1"]

    def in_host(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*enter_host(holder), *command], capture_output=True, text=True, check=False)

    effective = int(in_host("sh", "-c", "grep CapEff /proc/self/status").stdout.split()[1], 16)
    for number in (16, 17, 19, 21, 27):  # SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, MKNOD
        assert not effective >> number & 1
    assert effective >> 39 & 1  # BPF
    assert in_host("mount", "-t", "tmpfs", "none", "/mnt").returncode != 0
    assert in_host("ls", "/run/netns").returncode != 0
    other = state.holders["h2"].pid
    assert in_host("ls", f"/proc/{other}").returncode != 0
    (state.pins / "h2" / "mark").mkdir()
    assert "mark" not in in_host("ls", "-R", "/sys/fs/bpf").stdout
    assert {"uplink", "br0", "mgmt0"} <= set(in_host("ls", "/sys/class/net").stdout.split())


def test_a_whole_lab_enforces_and_leaves_nothing(lab_file: Path) -> None:
    lab = bring_up(lab_file)
    state = lab.state
    servers = EchoServers()
    try:
        web, app = lab.endpoint("acme/web"), lab.endpoint("acme/app")
        for version in (4, 6):
            for port in (8080, 22):
                servers.listen(namespace(lab, app.id), app.address(version), port, socket.SOCK_STREAM)
        servers.start()
        for version in (4, 6):
            addresses = web.address(version), app.address(version)
            assert Probe(namespace(lab, web.id), *addresses, 8080, socket.SOCK_STREAM).reach()
            assert not Probe(namespace(lab, web.id), *addresses, 22, socket.SOCK_STREAM).reach(DENIED_LIMIT_S)
        assert lab.run("acme/web", ["sh", "-c", "exit 7"]) == 7
        with pytest.raises(ConflictError, match="up already"):
            prepare(lab_file)
        processes = [*state.holders.values(), *state.agents.values(), *state.others.values()]
        assert all(process.alive for process in processes)
    finally:
        servers.close()
        lab.close()
        tear_down(load_state(state.name))
    assert not any(process.alive for process in processes)
    assert not [name for name in os.listdir("/run/netns") if name.startswith(f"hw-{state.name}-")]
    assert not state.folder.exists()
    assert not list(BPFFS.glob(f"hostward-lab-{state.name}*"))
    tear_down(state)  # does no harm twice


def test_what_a_crash_left_is_taken_down(lab_file: Path) -> None:
    lab = prepare(lab_file)
    lab.build()
    lab.close()
    lab.state.holders["h1"].kill()
    tear_down(load_state(lab.state.name))
    assert not [name for name in os.listdir("/run/netns") if name.startswith(f"hw-{lab.state.name}-")]
    assert not lab.state.holders["h2"].alive
