"""A guest's whole root, in memory: files of this machine at their own places, and a few made for the guest.

Nothing is shared with the guest while it runs, so it can change nothing here; and a root in memory needs no file system
driver, which Debian's cloud kernel would have to find first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

_TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
# Where a merged /usr leads to; programs are named by either path.
_MERGED = ("/bin", "/sbin", "/lib", "/lib64")


def find_kernel() -> tuple[Path, Path]:
    """Debian 12's own kernel, the newest there is, and the folder of its modules."""
    kernels = sorted(Path("/boot").glob("vmlinuz-6.1.*-cloud-amd64"), key=lambda path: re.findall(r"\d+", path.name))
    assert kernels, "linux-image-cloud-amd64 is missing: run `make setup`"
    return kernels[-1], Path("/lib/modules") / kernels[-1].name.removeprefix("vmlinuz-")


def find_tool(name: str) -> Path:
    """A program of this machine."""
    found = shutil.which(name, path=_TOOLS)
    assert found is not None, f"{name} is missing: run `make setup`"
    return Path(found)


class Initramfs:
    """What goes into a guest's root; ``pack`` makes the image. ``folder`` is for its working files."""

    def __init__(self, folder: Path) -> None:
        self._own = folder / "root"
        self._own.mkdir()
        self._image = folder / "initramfs"
        self._taken: set[str] = set()
        for path in map(Path, _MERGED):
            self._take_one(path)

    def take(self, path: Path, *, without: Sequence[str] = ()) -> None:
        """A file, a link with what it leads to, or a folder but for names that match ``without``."""
        self._take_one(path)
        if path.is_symlink() or not path.is_dir():
            return
        for folder, subfolders, files in os.walk(path):
            kept = [name for name in subfolders + files if not any(fnmatch(name, pattern) for pattern in without)]
            subfolders[:] = [name for name in subfolders if name in kept]
            for name in kept:
                self._take_one(Path(folder, name))

    def take_modules(self, names: Iterable[str]) -> list[str]:
        """Kernel modules and those they need, to be loaded in the order in which their files are returned."""
        _, modules = find_kernel()
        needs = dict(line.split(":") for line in (modules / "modules.dep").read_text().splitlines())
        by_name = {Path(path).name.partition(".")[0]: path for path in needs}
        ordered: dict[str, None] = {}
        for name in names:
            path = by_name[name]
            # modules.dep names a module's needs from the nearest to the deepest.
            ordered.update(dict.fromkeys([*reversed(needs[path].split()), path]))
        for order, path in enumerate(ordered):
            self.place(f"modules/{order:02}.ko", (modules / path).read_bytes())
        return [f"/modules/{order:02}.ko" for order in range(len(ordered))]

    def place(self, name: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file made for the guest."""
        path = self._own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    def pack(self) -> Path:
        """Write the image. The kernel unpacks one archive after the other."""
        self._take_libraries()
        own = {str(path.relative_to(self._own)) for path in self._own.rglob("*")}
        with self._image.open("wb") as output:
            for root, names in (("/", self._taken), (str(self._own), own)):
                subprocess.run(
                    ["cpio", "--quiet", "--null", "-o", "-H", "newc"],
                    input="\0".join(sorted(names)).encode(),
                    stdout=output,
                    cwd=root,
                    check=True,
                )
        return self._image

    def _take_libraries(self) -> None:
        """What the taken programs and shared objects are linked with."""
        linked = [path for path in map(Path("/").joinpath, self._taken) if _is_linked(path)]
        # Its status is that of the last one, and a program without libraries counts as failed.
        said = subprocess.run(["ldd", *linked], check=False, capture_output=True, text=True).stdout
        assert "not found" not in said, said
        for library in set(re.findall(r"(/\S+) \(0x", said)):
            self._take_one(Path(library))

    def _take_one(self, path: Path) -> None:
        """A name with the folders above it; through a link to what it leads to, or the link would lead nowhere."""
        real = path.parent.resolve() / path.name
        if str(real)[1:] in self._taken or not real.name:
            return
        for above in [*reversed(real.parents)][1:]:
            self._taken.add(str(above)[1:])
        self._taken.add(str(real)[1:])
        if real.is_symlink():
            self._take_one(real.parent / real.readlink())


def _is_linked(path: Path) -> bool:
    if not path.is_file() or not (".so" in path.name or os.access(path, os.X_OK)):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
