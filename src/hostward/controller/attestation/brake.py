"""The safety brake: a bad update of the reference values, or of all hosts, must not take the datacenter down (design §7).

When too many hosts begin to mismatch within the window, evictions for mismatches stop, and an alarm says so. What is forged
is never braked: a bad signature is no update.
"""

from __future__ import annotations

from hostward.attest.findings import Finding, Rule, Tier

WINDOW_S = 300.0
# In a small fleet a share is less than one host, and the first bad one has to go all the same.
_ALWAYS = 2
# What an update of software or of reference values can bring about on sound hosts.
_OF_UPDATES = frozenset(
    {
        Rule.BOOT_COMPONENT,
        Rule.BOOT_SETTING,
        Rule.BOOT_UNKNOWN,
        Rule.REFERENCE,
        Rule.IMA_FILE,
        Rule.IMA_SUPERSEDED,
        Rule.IMA_VIOLATION,
        Rule.MONITOR_COMPONENT,
        Rule.MONITOR_COMPONENT,
    }
)


def is_mismatch(findings: list[Finding]) -> bool:
    """Whether everything that speaks against a host is that its software is not the one that is known."""
    against = [finding.rule for finding in findings if finding.tier is Tier.CONTRAINDICATED]
    return bool(against) and all(rule in _OF_UPDATES for rule in against)


class Brake:
    """Counts the hosts that begin to mismatch. Times are seconds of one monotonic clock."""

    def __init__(self, share: float, window_s: float = WINDOW_S) -> None:
        self._share, self._window_s = share, window_s
        self._began: dict[str, float] = {}
        self.pulled_at_s: float | None = None  # when it last held an eviction up

    def evicts(self, host: str, hosts: int, now_s: float) -> bool:
        """Whether a host that begins to mismatch is evicted, of so many in all."""
        self._began = {name: at for name, at in self._began.items() if now_s - at < self._window_s}
        self._began.setdefault(host, now_s)
        if len(self._began) <= max(_ALWAYS, int(self._share * hosts)):
            return True
        self.pulled_at_s = now_s
        return False

    def ended(self, host: str) -> None:
        """The host matches again."""
        self._began.pop(host, None)

    def pulled(self, now_s: float) -> bool:
        """Whether evictions are being held up."""
        return self.pulled_at_s is not None and now_s - self.pulled_at_s < self._window_s
