"""A whole host under QEMU: firmware that measures, a TPM, Debian's kernel with IMA, and two network devices.

The TPM outlives its boots. What the guest prints goes to a file, and orders go in by a serial port (``lab.vm.Machine``).
"""

from __future__ import annotations

import base64
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from hostward.cli.proving import TPM_FOLDER
from hostward.lab.processes import Started, launch
from hostward.lab.tpm import make_tpm
from hostward.lab.vm import Machine
from tests.vm.host_image import daemon_command, interpreter
from tests.vm.initramfs import find_kernel

_FIRMWARE = Path("/usr/share/OVMF")
_CODE, _VARIABLES = "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"
# `rootfstype=ramfs`: IMA's policy leaves tmpfs out, which a root in memory otherwise is.
_LINE = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off tsc=reliable ima_policy=tcb rootfstype=ramfs"
# Uses what the agent uses, beside it: the kernel shares the TPM among its users.
_SIGN = """
import time
from pathlib import Path
from hostward.attest.algorithms import SHA256
from hostward.attester.attestation_key import attestation_key
from hostward.attester.endorsement import endorsement_key
from hostward.attester.tpm import Tpm
tpm = Tpm("device:/dev/tpmrm0")
key = attestation_key(tpm, endorsement_key(tpm)[0], Path("{folder}"))
times = []
for _ in range(5):
    began_s = time.monotonic()
    tpm.quote(key, SHA256, range(16), bytes(32))
    times.append(time.monotonic() - began_s)
print(1e3 * sorted(times)[2])
"""
_STATE = "/var/lib/hostward"
_BOOT_LIMIT_S, _ORDER_LIMIT_S = 240.0, 120.0


class WholeHost:
    """``namespace`` is where its taps are: ``management`` and ``uplink``, in the order of the guest's devices."""

    def __init__(self, folder: Path, namespace: str, management: str, uplink: str) -> None:
        assert (_FIRMWARE / _CODE).exists(), "ovmf is missing: run `make setup`"
        self._folder, self._namespace, self._taps = folder, namespace, (management, uplink)
        folder.mkdir()
        self._tpm = folder / "tpm"
        make_tpm(self._tpm, folder / "tpm-ca")
        shutil.copy(_FIRMWARE / _VARIABLES, folder / "variables.fd")
        self._boots, self._console = 0, folder / "console.log"
        self._stack = ExitStack()

    @property
    def authority(self) -> Path:
        """The folder of the CA that certified its TPM."""
        return self._folder / "tpm-ca"

    def boot(self, image: Path) -> None:
        """Power it on; returns when its init takes orders."""
        self._boots += 1
        boot = self._folder / f"boot-{self._boots}"
        boot.mkdir()
        self._console = boot / "console.log"
        self._stack.callback(self._start_tpm(boot).kill)
        self._stack.callback(launch(self._command(boot, image), boot / "qemu.log").kill)
        self._machine = Machine(boot)
        self._machine.await_boot(_BOOT_LIMIT_S)

    def power_off(self) -> None:
        """Stop it dead, and its TPM."""
        self._stack.close()

    def order(self, script: str) -> bytes:
        """Run a shell script in it; its output."""
        done = self._machine.run_script(script, _ORDER_LIMIT_S)
        assert done.status == 0, done.errors.decode(errors="replace")
        return done.output

    def start_daemons(self, token: str = "", state: bytes = b"") -> None:
        """Sentinel and agent, the agent with a token to join by, or with the state of an earlier boot."""
        given = base64.b64encode(state).decode()
        self.order(
            (f"echo {given} | base64 -d | tar -x -C {_STATE}\n" if state else "")
            + (f"echo {token} >{_STATE}/token\n" if token else "")
            + daemon_command("sentinel")
            + daemon_command("agent")
        )

    def state(self) -> bytes:
        """What the agent would have on a disk."""
        return self.order(f"tar -c -C {_STATE} agent")

    def sent(self, who: str) -> int:
        """How many datagrams were sent in it, by the host itself or by the endpoint."""
        shown = self.order(f"cat /run/talk-{who} || true").split()
        return int(shown[0]) if shown else 0  # it may not have begun

    def signing_ms(self) -> float:
        """How long its TPM takes for one quote, asked by a program in it that uses the agent's keys."""
        folder = f"{_STATE}/agent/{TPM_FOLDER}"
        self.order(f"cat >/tmp/sign.py <<'END'\n{_SIGN.format(folder=folder)}\nEND")
        return float(self.order(f"{interpreter()} /tmp/sign.py"))

    def console(self) -> str:
        """What its kernel and its daemons printed in its last boot."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def _start_tpm(self, boot: Path) -> Started:
        words = ("--tpm2", "--tpmstate", f"dir={self._tpm / 'state'}", "--flags", "startup-clear")
        control = boot / "tpm"
        started = launch(["swtpm", "socket", *words, "--ctrl", f"type=unixio,path={control}"], boot / "swtpm.log")
        _await_socket(control, started)
        return started

    def _command(self, boot: Path, image: Path) -> list[str]:
        devices = []
        for number, tap in enumerate(self._taps):
            devices += ["-netdev", f"tap,id=n{number},ifname={tap},script=no,downscript=no"]
            devices += ["-device", f"virtio-net-pci,netdev=n{number},mac=02:00:00:00:00:1{number},romfile="]
        return [
            "nsenter", f"--net=/run/netns/{self._namespace}", "--",
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1280",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_FIRMWARE / _CODE}",
            "-drive", f"if=pflash,format=raw,unit=1,file={self._folder / 'variables.fd'}",
            # Else this firmware waits for ever for what this QEMU does not offer.
            "-fw_cfg", "name=opt/org.tianocore/X-Cpuhp-Bugcheck-Override,string=yes",
            "-chardev", f"socket,id=tpm,path={boot / 'tpm'}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm0",
            "-kernel", str(find_kernel()[0]), "-initrd", str(image), "-append", _LINE,
            *devices,
            "-serial", f"file:{boot / 'console.log'}",
            "-chardev", f"socket,id=channel,path={boot / 'channel'},server=on,wait=off", "-serial", "chardev:channel",
        ]  # fmt: skip


def _await_socket(path: Path, started: Started) -> None:
    deadline_s = time.monotonic() + 20
    while not path.is_socket():
        assert started.alive, "swtpm ended"
        assert time.monotonic() < deadline_s
        time.sleep(0.005)  # swtpm tells nobody that it listens
