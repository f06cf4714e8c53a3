"""Every alert is seen to fire, and to keep silent: what `promtool test rules` runs, where promtool is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

FOLDER = Path(__file__).parents[3] / "packaging/prometheus"
PROMTOOL = shutil.which("promtool")


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    groups = YAML(typ="safe").load(FOLDER / "hostward.rules.yml")["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert set(re.findall(r'alertname="(\w+)"', (FOLDER / "hostward.test.yml").read_text())) == alerts


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_alerts_fire_when_they_should() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "hostward.test.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
