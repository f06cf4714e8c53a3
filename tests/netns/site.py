"""Several hosts on a fabric, each with an agent as a daemon of its own, and their controller, all over real TLS.

The fabric's namespace holds a switch, whose port towards a host may be slow, and beside it the management network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.netns.pair import inside_of, run

HOSTWARD = (sys.executable, "-m", "hostward.cli.main")
CONTROLLER = "192.0.2.1"
CHANNEL, ENROLMENT = 7443, 7444
# The machine may be busy with other things.
LIMIT_S = 60.0

# An agent's own view of devices: sysfs shows those of the namespace that mounts it, and bpffs lies elsewhere here.
_INSIDE = 'mount -t sysfs sysfs /sys && exec "$@"'


def wait_for(what: str, holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, f"waited {limit_s:g} s for {what}"
        time.sleep(0.1)


class Site:
    """`close` is the fixture's; the rest is for tests."""

    def __init__(self, tag: str, folder: Path) -> None:
        self.tag = tag
        self.folder = folder
        self.fabric = f"hws{tag}"
        self.bpf = folder / "bpf"
        self.api = folder / "api.sock"
        self._hosts: dict[str, int] = {}
        self._namespaces: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def build(self) -> None:
        self.bpf.mkdir()
        run("mount", "-t", "bpf", "bpf", str(self.bpf))
        self._namespace(self.fabric)
        for bridge in ("switch", "mgmt"):
            self.inside(self.fabric, "ip", "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            self.inside(self.fabric, "ip", "link", "set", bridge, "up")
        self.inside(self.fabric, "ip", "addr", "add", f"{CONTROLLER}/24", "dev", "mgmt")

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        subprocess.run(["umount", str(self.bpf)], capture_output=True, check=False)
        shutil.rmtree(self.bpf, ignore_errors=True)

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        # Nothing but what is sent on purpose.
        self.inside(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
        self.inside(name, "ip", "link", "set", "lo", "up")

    @staticmethod
    def inside(namespace: str, *command: str) -> str:
        done = subprocess.run(
            [*inside_of(namespace), *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def namespace(self, name: str) -> str:
        """Of a host or an endpoint."""
        return f"{self.fabric}{name}"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def start_controller(self) -> None:
        config = self.folder / "controller.toml"
        config.write_text(
            f'state = "{self.folder}/controller"\nsocket = "{self.api}"\naddress = "{CONTROLLER}"\n'
            f"channel_port = {CHANNEL}\nenrolment_port = {ENROLMENT}\n"
        )
        self._start("controller", self.fabric, "controller", "--config", str(config))
        wait_for("the controller's API", self.api.exists)

    def _start(self, name: str, namespace: str, *words: str) -> None:
        command = [*inside_of(namespace), "unshare", "--mount", "sh", "-c", _INSIDE, "sh", *HOSTWARD, *words]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "NO_COLOR": "1"}
            )

    def hostward(self, *words: str) -> str:
        done = subprocess.run(
            [*HOSTWARD, *words, "--server", f"unix://{self.api}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def add_host(self, name: str, uplink: str) -> None:
        """A host with its agent, connected; ``uplink`` is that table of its configuration."""
        namespace = self.namespace(name)
        self._namespace(namespace)
        number = self._hosts[name] = len(self._hosts) + 1
        self.inside(namespace, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        for switch, device in (("switch", "uplink"), ("mgmt", "mgmt0")):
            port = f"{name}-{switch}"
            self.inside(self.fabric, *f"ip link add {port} type veth peer name {device} netns {namespace}".split(" "))
            self.inside(self.fabric, *f"ip link set {port} master {switch} up".split(" "))
            self.inside(namespace, "ip", "link", "set", device, "up")
        self.inside(namespace, "ip", "link", "set", "uplink", "master", "br0")
        self.inside(namespace, "ip", "link", "set", "br0", "up")
        self.inside(namespace, "ip", "addr", "add", f"192.0.2.{10 + number}/24", "dev", "mgmt0")
        (self.folder / f"{name}.join").write_text(self.hostward("host", "token", name))
        (self.folder / f"{name}.toml").write_text(
            f'controller = "{CONTROLLER}:{CHANNEL}"\nenrolment = "{CONTROLLER}:{ENROLMENT}"\n'
            f'token_file = "{self.folder}/{name}.join"\nname = "{name}"\nstate = "{self.folder}/{name}"\n'
            f'pins = "{self.bpf}/{name}"\n[uplink]\ndevice = "uplink"\n{uplink}\n'
        )
        self.start_agent(name)

    def start_agent(self, name: str) -> None:
        self._start(name, self.namespace(name), "agent", "--config", f"{self.folder}/{name}.toml")

    def kill_agent(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def slow_port(self, host: str, bits_per_s: int) -> None:
        """What the switch sends to the host goes through a queue of this rate, which drops when it is full."""
        queue = f"tbf rate {bits_per_s}bit burst 100kb limit 200kb"
        self.inside(self.fabric, *f"tc qdisc replace dev {host}-switch root {queue}".split(" "))

    def add_endpoint(self, host: str, tenant: str, name: str, address: str) -> None:
        namespace, number = self.namespace(name), len(self._namespaces)
        self._namespace(namespace)
        mac, device = f"02:00:00:00:01:{number:02x}", f"p-{name}"
        link = f"ip link add {device} type veth peer name eth0 netns {namespace} address {mac}"
        self.inside(self.namespace(host), *link.split(" "))
        self.inside(self.namespace(host), "ip", "link", "set", device, "master", "br0")
        self.inside(namespace, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.inside(namespace, "ip", "link", "set", "eth0", "up")
        words = ("--tenant", tenant, "--host", host, "--device", device, "--mac", mac, "--ip", address)
        self.hostward("endpoint", "add", name, *words)

    def apply(self, files: Mapping[str, str]) -> None:
        policies = self.folder / "policies"
        policies.mkdir(exist_ok=True)
        for name, text in files.items():
            (policies / f"{name}.yaml").write_text(text)
        self.hostward("apply", "-f", str(policies))

    def classes(self, host: str) -> str:
        """The classes of a host's uplink, as tc(8) shows them."""
        return self.inside(self.namespace(host), "tc", "class", "show", "dev", "uplink")

    def filters(self, host: str, direction: str) -> str:
        """What looks at the packets of a host's uplink, beside the classes."""
        return self.inside(self.namespace(host), "tc", "filter", "show", "dev", "uplink", direction)

    def start(self, name: str, namespace: str, program: Path, *words: str) -> subprocess.Popen[bytes]:
        """Run a Python program inside; it reads and writes lines."""
        command = [*inside_of(self.namespace(namespace)), sys.executable, str(program), *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._running[name] = process
        return process

    def stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
