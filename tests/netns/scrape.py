"""A scrape of a running Hostward, parsed by Prometheus' own parser."""

from __future__ import annotations

import time
import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

READ_AT = "hostward_reading_timestamp_seconds"


class Scrape:
    """One answer."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}

    @property
    def names(self) -> set[str]:
        """The names that an expression may use."""
        return {sample.name for family in self.families.values() for sample in family.samples}

    def values(self, name: str) -> dict[str, float]:
        """Values by their labels, as ``key=value,…``."""
        samples = (sample for family in self.families.values() for sample in family.samples if sample.name == name)
        return {
            ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
            for sample in samples
        }

    def value(self, name: str) -> float:
        """Of a metric without labels."""
        return self.values(name)[""]

    def by(self, name: str, label: str) -> dict[str, float]:
        """Values by one label, those that are zero left out."""
        samples = (sample for family in self.families.values() for sample in family.samples if sample.name == name)
        return {sample.labels[label]: sample.value for sample in samples if sample.value}


def scrape(url: str) -> Scrape:
    """What is told now; the kernel's counters in it are read after this was called."""
    begun = time.time()
    while True:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = Scrape(answer.read().decode())
        if READ_AT not in found.names or found.value(READ_AT) >= begun:
            return found
