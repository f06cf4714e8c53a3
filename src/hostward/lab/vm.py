"""An endpoint that is a real machine: Debian's cloud kernel under QEMU, an initramfs made here, a command channel.

The channel is the second serial port, because a serial port needs no module and no address: commands go in as one base64
line each, output and exit status come back in three lines. The machine's network is its tap, and nothing else.
"""

from __future__ import annotations

import base64
import fcntl
import ipaddress
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostward.errors import ConflictError, HostwardError
from hostward.lab.host import REDUCED
from hostward.lab.processes import Started, child_of, launch
from hostward.lab.topology import LabEndpoint

# In the order of their dependencies, below /lib/modules/RELEASE/kernel.
_MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
)
ECHO_PORT = 8080
MEMORY_MIB = 192
_READY = "hostward-machine-ready"

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module"; done
ip link set lo up
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
{addresses}
ip link set eth0 up
{routes}
nc -ll -p {port} -e cat &
stty -F /dev/ttyS1 raw -echo
exec 3</dev/ttyS1 4>/dev/ttyS1
echo {ready} >/dev/ttyS0
while read -r line <&3; do
  echo "$line" | base64 -d >/tmp/command
  sh /tmp/command </dev/null >/tmp/out 2>/tmp/err
  status=$?
  echo "$(base64 -w 0 /tmp/out)" >&4
  echo "$(base64 -w 0 /tmp/err)" >&4
  echo "$status" >&4
done
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command inside a machine ended."""

    status: int
    output: bytes
    errors: bytes


def find_kernel() -> tuple[Path, Path]:
    """The newest cloud kernel and its modules. Raises HostwardError."""
    images = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=_version)
    for image in reversed(images):
        modules = Path("/lib/modules") / image.name.removeprefix("vmlinuz-") / "kernel"
        if modules.is_dir():
            return image, modules
    raise HostwardError(
        "there is no Debian cloud kernel for the lab's machines",
        subject="/boot/vmlinuz-*-cloud-amd64",
        hint="apt-get install linux-image-cloud-amd64, or leave `kind: vm` out of the lab file",
    )


def _version(image: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", image.name)]


def make_initramfs(endpoint: LabEndpoint, folder: Path) -> Path:
    """Build the initramfs of one machine in ``folder``."""
    _, modules = find_kernel()
    root = folder / "root"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "modules").mkdir(exist_ok=True)
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        raise HostwardError("busybox is missing", subject=str(busybox), hint="apt-get install busybox-static")
    (root / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for order, name in enumerate(_MODULES):
        (root / "modules" / f"{order}-{Path(name).name}.ko").write_bytes((modules / f"{name}.ko").read_bytes())
    versions = {address: ipaddress.ip_address(address).version for address in endpoint.addresses}
    init = _INIT.format(
        addresses="\n".join(
            f"ip addr add {address}/{32 if version == 4 else 128} dev eth0" for address, version in versions.items()
        ),
        routes="\n".join(f"ip -{version} route add default dev eth0" for version in sorted(set(versions.values()))),
        port=ECHO_PORT,
        ready=_READY,
    )
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    image = folder / "initramfs"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with image.open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], input=names.encode(), stdout=output, cwd=root, check=True
        )
    return image


def start_machine(endpoint: LabEndpoint, folder: Path, holder: Started) -> Started:
    """Start a machine on its tap, in its host's network and pid namespaces."""
    folder.mkdir(parents=True, exist_ok=True)
    kernel, _ = find_kernel()
    initramfs = make_initramfs(endpoint, folder)
    command = [
        "nsenter", f"--target={holder.pid}", "--net", "--pid", "--", *REDUCED,
        "qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY_MIB), "-smp", "1", "-nodefaults", "-no-user-config",
        "-display", "none", "-kernel", str(kernel), "-initrd", str(initramfs),
        "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on",
        "-netdev", f"tap,id=port,ifname={endpoint.device},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=port,mac={endpoint.mac},romfile=",
        "-serial", f"file:{folder / 'console.log'}",
        "-chardev", f"socket,id=channel,path={folder / 'channel'},server=on,wait=off",
        "-serial", "chardev:channel", "-no-reboot",
    ]  # fmt: skip
    return child_of(launch(command, folder / "qemu.log"))


class Machine:
    """The command channel of a running machine. One command at a time, whoever asks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def await_boot(self, limit_s: float = 60.0) -> None:
        """Return once the machine takes commands. Raises ConflictError."""
        # Before that nobody reads the serial port, and what is written to it is lost.
        deadline_s = time.monotonic() + limit_s
        console = self._folder / "console.log"
        while not console.exists() or _READY not in console.read_text(errors="replace"):
            if time.monotonic() > deadline_s:
                raise ConflictError("the machine did not boot", subject=str(self._folder), hint="see its console.log")
            time.sleep(0.02)

    def run(self, command: Sequence[str], limit_s: float = 60.0) -> Finished:
        """Run a command by the machine's shell and wait for its end. Raises ConflictError if the machine is not there."""
        return self.run_script(shlex.join(command), limit_s)

    def run_script(self, script: str, limit_s: float = 60.0) -> Finished:
        """Run a shell script."""
        lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._ask(script, limit_s)
        except OSError as error:
            raise ConflictError(
                f"the machine does not answer: {error}",
                subject=str(self._folder),
                hint="see its console.log and qemu.log",
            ) from error
        finally:
            os.close(lock)

    def _ask(self, script: str, limit_s: float) -> Finished:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(limit_s)
            channel.connect(str(self._folder / "channel"))
            with channel.makefile("rb") as lines:
                channel.sendall(base64.b64encode(script.encode()) + b"\n")
                answers: list[bytes] = []
                while len(answers) < 3:
                    line = lines.readline()
                    if not line.endswith(b"\n"):
                        raise ConnectionError("the channel was closed")
                    answers.append(line.strip())
        return Finished(int(answers[2]), base64.b64decode(answers[0]), base64.b64decode(answers[1]))
