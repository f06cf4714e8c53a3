"""The lab file: what it says, and where it is wrong."""

from pathlib import Path

import pytest

from hostward.errors import PolicyError, UsageError
from hostward.lab.topology import MAX_ATTESTED_HOSTS, Kind, LabAttestation, parse_topology, read_topology

GOOD = """\
lab: small
hosts: [h1, h2]
endpoints:
  acme/web: {host: h1, labels: {role: web}, addresses: [10.1.0.1, "fd00:1::1"]}
  acme/app: {host: h2, addresses: [10.1.0.2], kind: vm, mac: "02:00:00:AA:00:01"}
  acme/a-very-long-name: {host: h2, addresses: [10.1.0.3]}
outside:
  client: [198.51.100.10]
"""


def test_a_file_becomes_hosts_endpoints_and_nodes() -> None:
    topology = parse_topology("lab.yaml", GOOD.encode())
    assert topology.hosts == ("h1", "h2")
    web, app, long = topology.endpoints.values()
    assert (web.id, web.host, dict(web.labels), web.device) == ("acme/web", "h1", {"role": "web"}, "acme-web")
    assert web.address(6) == "fd00:1::1"
    assert (app.kind, app.mac) == (Kind.VM, "02:00:00:aa:00:01")
    assert long.device == "port2"  # a device's name has at most 15 characters
    assert topology.outside["client"].address(4) == "198.51.100.10"


def test_hosts_attest_unless_the_file_says_otherwise() -> None:
    assert parse_topology("lab.yaml", GOOD.encode()).attestation is LabAttestation.ENFORCE
    for mode in LabAttestation:
        assert parse_topology("lab.yaml", f"{GOOD}attestation: {mode.value}\n".encode()).attestation is mode
    many = f"hosts: [{', '.join(f'h{n}' for n in range(1, MAX_ATTESTED_HOSTS + 2))}]"
    with pytest.raises(PolicyError, match=r"at most \d+ hosts"):
        parse_topology("lab.yaml", GOOD.replace("hosts: [h1, h2]", many).encode())
    parse_topology("lab.yaml", f"{GOOD}attestation: off\n".replace("hosts: [h1, h2]", many).encode())


def test_macs_that_are_left_out_differ() -> None:
    topology = parse_topology("lab.yaml", GOOD.encode())
    nodes = [*topology.endpoints.values(), *topology.outside.values()]
    assert len({node.mac for node in nodes}) == len(nodes)


def test_the_example_is_read() -> None:
    path = Path(__file__).parents[3] / "examples/three-tier/lab/topology.yaml"
    topology = read_topology(path)
    assert len(topology.hosts) == 3
    assert [e.id for e in topology.endpoints.values() if e.kind is Kind.VM] == ["acme/app-2"]
    assert all(policy.is_file() for policy in topology.policy)


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("host: h1", "host: h9", 4, "h9"),
        ("10.1.0.2]", "10.1.0.1]", 5, "given twice"),
        ("10.1.0.2]", "10.1.0.2/24]", 5, "no IP address"),
        ("kind: vm", "kind: docker", 5, "namespace or a vm"),
        ("02:00:00:AA:00:01", "02:00", 5, "no MAC"),
        ("labels: {role: web}", "labels: web", 4, "mapping"),
        ("acme/app:", "app:", 5, "no endpoint"),
        ("hosts:", "machines:", 2, "not known"),
        ("lab: small", "lab: Small Lab", 1, "name"),
        ("lab: small", "lab: small\npolicy: [none.yaml]", 2, "none.yaml"),
        ("lab: small", "lab: small\nattestation: perhaps", 2, "no mode"),
    ],
)
def test_a_mistake_is_located(old: str, new: str, line: int, word: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_topology("lab.yaml", GOOD.replace(old, new).encode())
    assert any(problem.line == line and word in problem.message for problem in refused.value.problems), refused.value


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_topology(tmp_path / "lab.yaml")
