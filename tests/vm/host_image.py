"""The root of a whole host: Hostward's agent and sentinel with what they import, and an init that is little else.

With `ima_policy=tcb` every file that root opens is measured, so what is not needed is not there. What differs from boot to
boot lies on tmpfs, which IMA leaves out: state, sockets, and what comes over the command channel.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.vm.initramfs import Initramfs, find_tool

REPOSITORY = Path(__file__).resolve().parents[2]
DATAPATH_OBJECT = REPOSITORY / "src/hostward/bpf/endpoint.bpf.o"
# The management network, and the fabric (TEST-NET-1 and TEST-NET-2, RFC 5737; pools are private).
CONTROLLER, GATE_DOOR, MANAGEMENT = "192.0.2.1", "192.0.2.110", "192.0.2.10"
OUTSIDE, HOST_ITSELF, ENDPOINT = "198.51.100.10", "198.51.100.66", "10.1.0.1"
ENDPOINT_MAC = "02:00:00:00:01:01"
CHANNEL_PORT, ENROLMENT_PORT, PULSES_PORT, TALK_PORT = 7443, 7444, 7446, 9000
HOST, GATE_PORT, DEVICE = "h1", "uplink", "port0"

_MODULES = ("virtio_pci", "virtio_net", "veth", "bridge", "sch_ingress", "cls_bpf")
_TOOLS = ("busybox", "ip", "tc")
# Of the standard library and of packages: big, and no daemon imports them.
_UNNEEDED = (
    *("test", "tests", "idlelib", "lib2to3", "tkinter", "ensurepip", "pydoc_data", "turtledemo", "distutils"),
    *("*.pyx", "*.pxd", "*.pyi", "*.c", "*.h", "*.a", "config-3*", "dist-packages", "site-packages"),
)
_NOT_OURS = ("bench*", "lab", "gate.bpf.o", "_core*.so.*")
_TSS = ("libtss2-esys.so.0", "libtss2-tctildr.so.0", "libtss2-tcti-device.so.0")
_PADDING = 12  # within e_ident, which ends with unused bytes
# What the daemons import, by asking one that has imported them.
_ASK_IMPORTS = """
import json, sys
import hostward.cli.daemons, hostward.cli.gates, hostward.cli.main, hostward.cli.proving
import hostward.attester, hostward.attester.watch, hostward.sentinel.client, tpm2_pytss, uvloop
print(json.dumps([getattr(module, "__file__", None) for module in list(sys.modules.values())]))
"""

_INIT = f"""#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8
export PYTHONPATH='{REPOSITORY}/src' PYTHONDONTWRITEBYTECODE=1 TSS2_LOG=all+NONE
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var/lib/hostward /root
/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t securityfs security /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for folder in /tmp /run /var/lib/hostward; do mount -t tmpfs -o mode=0700 tmpfs $folder; done
mkdir -m 0700 /run/hostward-sentinel
for module in /modules/*.ko; do insmod "$module"; done
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
{{ip}} link set lo up
{{ip}} addr add {MANAGEMENT}/24 dev eth0
{{ip}} link set eth0 up
{{ip}} link set eth1 name uplink
{{ip}} link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0
{{ip}} link set uplink master br0
{{ip}} link set uplink up
{{ip}} addr add {HOST_ITSELF}/24 dev br0
{{ip}} link set br0 up
{{ip}} netns add workload
{{ip}} link add {DEVICE} type veth peer name eth0 address {ENDPOINT_MAC} netns workload
{{ip}} link set {DEVICE} master br0
nsenter --net=/run/netns/workload {{ip}} addr add {ENDPOINT}/32 dev eth0
nsenter --net=/run/netns/workload {{ip}} link set eth0 up
nsenter --net=/run/netns/workload {{ip}} route add default dev eth0
{{python}} -I -S /talk.py host {HOST_ITSELF} {OUTSIDE} {TALK_PORT} &
nsenter --net=/run/netns/workload {{python}} -I -S /talk.py endpoint {ENDPOINT} {OUTSIDE} {TALK_PORT} &
stty -F /dev/ttyS1 raw -echo
exec 3</dev/ttyS1 4>/dev/ttyS1
echo hostward-machine-ready >/dev/ttyS0
while read -r line <&3; do
  echo "$line" | base64 -d >/tmp/command
  sh /tmp/command </dev/null >/tmp/out 2>/tmp/err
  status=$?
  echo "$(base64 -w 0 /tmp/out)" >&4
  echo "$(base64 -w 0 /tmp/err)" >&4
  echo "$status" >&4
done
"""

_AGENT = f"""
name = "{HOST}"
controller = "{CONTROLLER}:{CHANNEL_PORT}"
enrolment = "{CONTROLLER}:{ENROLMENT_PORT}"
token_file = "/var/lib/hostward/token"
state = "/var/lib/hostward/agent"
pins = "/sys/fs/bpf/hostward"
[attestation]
sentinel = "/run/hostward-sentinel/sentinel.sock"
"""

_SENTINEL = f"""
gate = "{GATE_DOOR}:{PULSES_PORT}"
port = "{GATE_PORT}"
socket = "/run/hostward-sentinel/sentinel.sock"
pins = "/sys/fs/bpf/hostward"
"""


def daemon_command(kind: str) -> str:
    """The shell's command that starts `agent` or `sentinel` in the guest; what it says goes to the console."""
    return f"{interpreter()} -m hostward.cli.main {kind} --config /etc/hostward/{kind}.toml >/dev/console 2>&1 &\n"


def make_host_image(folder: Path) -> Path:
    """The initramfs. It is compressed, because the firmware takes longer to hash it than the kernel to unpack it."""
    root = Initramfs(folder)
    _take_python(root)
    for file in map(find_tool, _TOOLS):
        root.take(file)
    libraries = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH"))
    for name in _TSS:
        root.take(libraries / name)
    root.take_modules(_MODULES)
    root.place("init", _INIT.format(python=interpreter(), ip=find_tool("ip")), 0o755)
    root.place("talk.py", (REPOSITORY / "tests/vm/talk.py").read_bytes())
    root.place("etc/hostward/agent.toml", _AGENT, 0o600)
    root.place("etc/hostward/sentinel.toml", _SENTINEL, 0o600)
    plain = root.pack()
    try:
        return _compressed(plain.read_bytes(), folder / "sound.gz")
    finally:
        plain.unlink()


def with_one_byte_changed(image: Path, file: Path) -> Path:
    """Another image, in which a byte of this file differs: one of the padding in ELF's head, so that it loads as before."""
    content, sound = bytearray(gzip.decompress(image.read_bytes())), file.read_bytes()
    at = content.find(sound)
    assert at > 0, f"{file} is not in {image}"
    content[at + _PADDING] ^= 1
    return _compressed(content, image.with_name("changed.gz"))


def interpreter() -> Path:
    """Python, here and in the guest."""
    return Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name


def _take_python(root: Initramfs) -> None:
    python = interpreter()
    asked = subprocess.run([python, "-c", _ASK_IMPORTS], check=True, capture_output=True, text=True, timeout=120)
    imported = {Path(name) for name in json.loads(asked.stdout) if name}
    root.take(Path(sysconfig.get_path("stdlib")), without=_UNNEEDED)
    for site in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
        tops = {site / path.relative_to(site).parts[0] for path in imported if path.is_relative_to(site)}
        for top in tops:
            root.take(top, without=_UNNEEDED)
        for other in [path for pattern in ("*.pth", "*.libs", "*.dist-info") for path in site.glob(pattern)]:
            root.take(other)
    root.take(REPOSITORY / "src", without=_NOT_OURS)
    for file in (python, python.parents[1] / "pyvenv.cfg"):
        root.take(file)


def _compressed(content: bytes | bytearray, path: Path) -> Path:
    path.write_bytes(gzip.compress(content, 1, mtime=0))
    return path
