"""A lab, brought up step by step: wires, then hosts, then (if asked) controller, agents, policy and endpoints.

It speaks to Hostward as an operator would: daemons by the command line, everything else by the REST API.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hostward.errors import ConflictError, NotFoundError
from hostward.lab import network
from hostward.lab.controller import CHANNEL_PORT, ENROLMENT_PORT, Operator, start_controller, start_controller_again
from hostward.lab.host import agent_log, network_of, start_agent, start_host
from hostward.lab.processes import Started
from hostward.lab.state import LABS, LabState, load_state, tear_down
from hostward.lab.topology import Kind, LabAttestation, LabEndpoint, Topology, read_topology
from hostward.lab.trust import LabTrust
from hostward.lab.vm import Machine, start_machine

Report = Callable[[str], None]


class Lab:
    """A lab that is up, or being brought up. Not for several processes at a time, except for ``run`` and ``status``."""

    def __init__(self, topology: Topology, state: LabState, report: Report = lambda _: None) -> None:
        self.topology = topology
        self.state = state
        self._report = report
        self.operator = Operator(state.api)
        self.trust = LabTrust(topology, state)

    # -- building ------------------------------------------------------------------------------------------------

    @property
    def attested(self) -> bool:
        """Whether the hosts have TPMs, sentinels and gates."""
        return self.topology.attestation is not LabAttestation.OFF

    def build(self) -> None:
        """Wires, hosts, endpoints and machines, without Hostward: every endpoint's port is down."""
        state, topology = self.state, self.topology
        fabric, management = state.namespace("fabric"), state.namespace("management")
        self._report("network")
        for name in (fabric, management, state.namespace("controller")):
            self._make_namespace(name)
        for name in (fabric, management):
            network.make_switch(name)
        network.wire_controller(state.namespace("controller"), management)
        for index, host in enumerate(topology.hosts):
            self._report(f"host {host}")
            state.holders[host] = start_host(state, host)
            state.save()
            network.wire_host(index, host, network_of(state.holders[host]), fabric, management)
            if self.attested:
                gate = state.namespace("gate", host)
                self._make_namespace(gate)
                network.wire_gate(index, gate, fabric, management, network_of(state.holders[host]))
        for index, node in enumerate(topology.outside.values()):
            namespace = state.namespace("outside", node.name)
            self._make_namespace(namespace)
            network.wire_outside(node, index, namespace, fabric)
        for endpoint in topology.endpoints.values():
            self._report(f"endpoint {endpoint.id}")
            namespace = self.namespace_of(endpoint)
            if endpoint.kind is Kind.NAMESPACE:
                self._make_namespace(namespace)
            holder = state.holders[endpoint.host]
            network.wire_endpoint(endpoint, namespace, network_of(holder))
            if endpoint.kind is Kind.VM:
                state.machines[endpoint.id] = start_machine(endpoint, self._machine_folder(endpoint), holder)
                state.save()

    def await_machines(self) -> None:
        """Return once every machine takes commands."""
        for endpoint in self.topology.endpoints.values():
            if endpoint.kind is Kind.VM:
                self._report(f"machine {endpoint.id}")
                self.machine(endpoint.id).await_boot()

    def _make_namespace(self, name: str) -> None:
        self.state.namespaces.append(name)
        self.state.save()
        network.make_namespace(name)

    # -- Hostward ------------------------------------------------------------------------------------------------

    def start_hostward(self) -> None:
        """The controller, and an agent on every host, each joined by a token of its own."""
        state = self.state
        settings = ""
        if self.attested:
            self._report("TPMs and gates")
            settings = self.trust.prepare()
        self._report("controller")
        controller = state.others["controller"] = start_controller(state, settings)
        state.save()
        self.operator.await_answer(controller, state.folder / "controller.log")
        for host in self.topology.hosts:
            self._report(f"agent of {host}")
            token = str(self.operator.call("POST", "/v1/tokens", {"host": host})["token"])
            folder = state.host_folder(host) / "state"
            (folder / "token").touch(0o600)
            (folder / "token").write_text(token)
            (folder / "agent.toml").write_text(
                f'name = "{host}"\n'
                f'controller = "{network.CONTROLLER_ADDRESS}:{CHANNEL_PORT}"\n'
                f'enrolment = "{network.CONTROLLER_ADDRESS}:{ENROLMENT_PORT}"\n'
                'token_file = "/var/lib/hostward/token"\n'
                'state = "/var/lib/hostward/agent"\n'
                'pins = "/sys/fs/bpf/hostward"\n'
                + (self.trust.agent_settings() if self.attested else "")
                + self.topology.agent.replace("{collector}", network.CONTROLLER_ADDRESS)
            )
        self.start_agents(self.topology.hosts)
        for host in self.topology.hosts:
            (state.host_folder(host) / "state" / "token").unlink()  # redeemed; the identity is kept
        if self.attested:
            self._report("reference values")
            self.trust.learn(self.operator)

    def restart_controller(self) -> None:
        """Start the controller once more, after it was ended."""
        state = self.state
        controller = state.others["controller"] = start_controller_again(state)
        state.save()
        self.operator.await_answer(controller, state.folder / "controller.log")

    def start_agents(self, hosts: Iterable[str]) -> None:
        """Start agents and wait until the controller sees them."""
        state = self.state
        started: dict[str, tuple[Started, Path]] = {}
        for host in hosts:
            state.agents[host] = start_agent(state, host)
            started[host] = state.agents[host], agent_log(state, host)
        state.save()
        self.operator.await_hosts(started)

    def kill_agents(self) -> None:
        """SIGKILL every agent."""
        for agent in self.state.agents.values():
            agent.kill()

    def apply_policy(self) -> None:
        """Apply the policy files of the lab file."""
        if self.topology.policy:
            self._report("policy")
            self.operator.apply([(str(path), path.read_text()) for path in self.topology.policy])

    def attach_endpoints(self) -> None:
        """Give every endpoint to Hostward; returns once all are enforced."""
        for endpoint in self.topology.endpoints.values():
            self._report(f"attach {endpoint.id}")
            self.operator.call(
                "POST",
                "/v1/endpoints",
                {
                    "tenant": endpoint.tenant,
                    "name": endpoint.name,
                    "labels": dict(endpoint.labels),
                    "device": endpoint.device,
                    "mac": endpoint.mac,
                    "addresses": list(endpoint.addresses),
                    "host": endpoint.host,
                },
            )
        self.operator.await_endpoints(list(self.topology.endpoints))

    def await_network(self) -> None:
        """Return once every host may speak: its gate is open, if it has one."""
        if self.attested:
            self._report("gates")
            self.trust.await_gates(self.operator)

    def force_ports(self, state: str) -> None:
        """Set every endpoint's port ``up`` or ``down`` by hand: what a host without Hostward would do."""
        for host, holder in self.state.holders.items():
            devices = [e.device for e in self.topology.endpoints.values() if e.host == host]
            network.set_ports(network_of(holder), devices, state)

    def forget_neighbours(self) -> None:
        """Empty every node's neighbour table and every switch's address table."""
        for host, holder in self.state.holders.items():
            network.restart_port(network_of(holder), network.UPLINK)
            self._report(f"{host} forgets")
            if self.attested:
                network.restart_port(self.state.namespace("gate", host), network.GATE_FABRIC)
        for name in self.topology.outside:
            network.forget_neighbours(self.state.namespace("outside", name))
        for endpoint in self.topology.endpoints.values():
            if endpoint.kind is Kind.VM:
                self.machine(endpoint.id).run_script("ip neigh flush dev eth0")
            else:
                network.forget_neighbours(self.namespace_of(endpoint))

    # -- use -----------------------------------------------------------------------------------------------------

    def endpoint(self, name: str) -> LabEndpoint:
        """An endpoint by ``tenant/name``. Raises NotFoundError."""
        try:
            return self.topology.endpoints[name]
        except KeyError:
            known = ", ".join(self.topology.endpoints)
            raise NotFoundError("no such endpoint", subject=name, hint=f"the lab has {known}") from None

    def namespace_of(self, endpoint: LabEndpoint) -> str:
        """The network namespace of an endpoint, as `ip netns` shows it."""
        return self.state.namespace(endpoint.tenant, endpoint.name)

    def enter(self, name: str) -> list[str]:
        """What to put before a command to run it inside a namespace endpoint, or an outside node. Raises NotFoundError."""
        if name in self.topology.outside:
            return network.enter(self.state.namespace("outside", name))
        endpoint = self.endpoint(name)
        if endpoint.kind is Kind.VM:
            raise ConflictError("it is a machine, not a namespace", subject=name, hint="use its command channel")
        return network.enter(self.namespace_of(endpoint))

    def machine(self, name: str) -> Machine:
        """The command channel of a machine endpoint. Raises NotFoundError."""
        return Machine(self._machine_folder(self.endpoint(name)))

    def run(self, name: str, command: Sequence[str]) -> int:
        """Run a command inside an endpoint or an outside node, on this process's standard streams; its exit status."""
        if name not in self.topology.outside and self.endpoint(name).kind is Kind.VM:
            finished = self.machine(name).run(command)
            sys.stdout.buffer.write(finished.output)
            sys.stderr.buffer.write(finished.errors)
            sys.stdout.flush()
            return finished.status
        return subprocess.run([*self.enter(name), *command], check=False).returncode

    def _machine_folder(self, endpoint: LabEndpoint) -> Path:
        return self.state.folder / "machines" / f"{endpoint.tenant}-{endpoint.name}"

    def close(self) -> None:
        """Let go of the controller; the lab stays up."""
        self.operator.close()


def prepare(file: Path, report: Report = lambda _: None) -> Lab:
    """Read a lab file and begin a lab, of which nothing is built yet. Raises ConflictError if it is up already."""
    topology = read_topology(file)
    if (LABS / topology.name / "state.json").exists():
        raise ConflictError("it is up already", subject=topology.name, hint=f"hostward lab down {topology.name}")
    state = LabState(topology.name, str(file.resolve()), secrets.token_hex(4))
    state.save()
    return Lab(topology, state, report)


def bring_up(file: Path, report: Report = lambda _: None) -> Lab:
    """A whole lab with Hostward enforcing. What was built is taken down again if a step fails."""
    lab = prepare(file, report)
    try:
        lab.build()
        lab.start_hostward()
        lab.apply_policy()
        lab.attach_endpoints()
        lab.await_machines()
        lab.await_network()
    except BaseException:
        lab.close()
        tear_down(lab.state)
        raise
    return lab


def open_lab(name: str) -> Lab:
    """A lab that is up. Raises NotFoundError."""
    state = load_state(name)
    return Lab(read_topology(Path(state.file)), state)
