"""What `preflight` finds on the machine that the tests run on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hostward.cli import preflight


def test_every_finding_is_complete_and_what_is_not_good_says_what_to_do() -> None:
    findings = preflight.examine()
    assert {"kernel", "hook", "btf", "bpffs", "cgroup2", "unprivileged bpf", "tpm", "capabilities"} <= {
        finding["name"] for finding in findings
    }
    for finding in findings:
        assert finding["state"] in ("good", "warning", "missing")
        assert finding["detail"]
        assert bool(finding["todo"]) == (finding["state"] != "good"), finding


def test_what_attesting_takes_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(preflight, "_SECURITY", tmp_path)
    (tmp_path / "ima").mkdir()
    (tmp_path / "ima" / "binary_runtime_measurements").touch()
    found = {finding["name"]: finding["state"] for finding in preflight.examine()}
    assert (found["ima"], found["boot log"]) == ("good", "warning")
    assert "tpm library" in found


def test_a_device_that_bypasses_the_datapath_is_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "ens1" / "device").mkdir(parents=True)
    (tmp_path / "ens1" / "device" / "sriov_numvfs").write_text("4\n")
    (tmp_path / "tap7" / "macvtap").mkdir(parents=True)
    monkeypatch.setattr(preflight, "_NET", tmp_path)
    found = {finding["name"]: finding for finding in preflight.examine()}
    assert found["sr-iov ens1"]["state"] == found["macvtap tap7"]["state"] == "warning"
    assert "bypasses" not in found


def test_a_mounted_cgroup2_is_found_where_findmnt_finds_it() -> None:
    mounted = subprocess.run(["findmnt", "-t", "cgroup2"], capture_output=True, check=False).returncode == 0
    (found,) = (finding for finding in preflight.examine() if finding["name"] == "cgroup2")
    assert (found["state"] == "good") == mounted
