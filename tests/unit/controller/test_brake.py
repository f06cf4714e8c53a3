"""The safety brake: one bad host goes, a bad update of all does not take the site down, a forger always goes."""

from __future__ import annotations

from hostward.attest.findings import Finding, Rule, Tier, failed, passed, warned
from hostward.controller.attestation.brake import WINDOW_S, Brake, is_mismatch

MISMATCH = failed(Rule.IMA_FILE, "a file")
FORGED = failed(Rule.QUOTE_GENUINE, "a signature")


def test_only_what_an_update_can_do_to_sound_hosts_is_a_mismatch() -> None:
    assert is_mismatch([MISMATCH, passed(Rule.QUOTE_GENUINE, ""), warned(Rule.QUOTE_BOUND, "")])
    assert not is_mismatch([MISMATCH, FORGED])
    assert not is_mismatch([passed(Rule.IMA_FILE, "")])
    assert not is_mismatch([])
    of_updates = ("boot.component", "boot.setting", "boot.unknown", "reference", "monitor.component")
    files = (Rule.IMA_FILE, Rule.IMA_SUPERSEDED, Rule.IMA_VIOLATION)
    for rule in Rule:
        alone = [Finding(rule, Tier.CONTRAINDICATED, "")]
        assert is_mismatch(alone) == (rule.label.startswith(of_updates) or rule in files), rule


def test_two_percent_of_a_thousand_go_and_the_next_stays() -> None:
    brake = Brake(0.02)
    assert all(brake.evicts(f"h{number}", 1_000, 1.0) for number in range(20))
    assert not brake.pulled(1.0)
    assert not brake.evicts("h20", 1_000, 2.0)
    assert brake.pulled(2.0)
    assert brake.evicts("h7", 1_000, 2.0) is False  # it is one of too many now


def test_the_first_bad_hosts_of_a_small_site_go() -> None:
    brake = Brake(0.02)
    assert [brake.evicts(f"h{number}", 5, 0.0) for number in range(3)] == [True, True, False]


def test_it_is_released_when_the_window_is_over_and_by_hosts_that_match_again() -> None:
    brake = Brake(0.02)
    for number in range(3):
        brake.evicts(f"h{number}", 5, 0.0)
    assert not brake.pulled(WINDOW_S + 1)
    assert brake.evicts("h9", 5, WINDOW_S + 1)
    brake.ended("h9")
    assert brake.evicts("h1", 5, WINDOW_S + 2)
    assert brake.evicts("h2", 5, WINDOW_S + 2)
