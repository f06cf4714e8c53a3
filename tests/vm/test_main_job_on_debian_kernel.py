"""The main job's tests once more, on Debian 12's own kernel: no tcx there, so the verdict is a clsact filter.

The guest runs the very files that run on this machine, with the same programs and real sockets. What it does not run is
listed here with the reason; another skip, or a test without a result, is a failure.
"""

from __future__ import annotations

import pytest

from tests.netns.hooks import NO_TCX
from tests.vm.guest import GuestRun, run_in_guest

# Of the tests with whole agents and controllers those that a kernel has a say in: a command takes seconds under TCG.
TESTS = (
    "tests/netns/lab/test_lab.py::test_a_whole_lab_enforces_and_leaves_nothing",
    "tests/netns/lab/test_lab.py::test_a_host_has_neither_the_rights_nor_the_sight_to_leave",
    "tests/netns/test_life.py",
    "tests/netns/test_tampering.py",
    "tests/netns/test_up.py::test_a_policy_file_denies_a_real_packet_and_says_why",
    "tests/netns/test_up.py::test_a_killed_hostward_keeps_deciding_and_comes_back",
    "tests/netns/test_kernel_equals_model.py",
    "tests/netns/test_isolation.py",
    "tests/netns/test_verdicts.py",
    "tests/netns/test_flow_states.py",
    "tests/netns/test_reject.py",
    "tests/netns/test_keep.py",
    "tests/netns/test_acceptors.py::test_only_the_named_executable_accepts",
    "tests/netns/test_acceptors.py::test_datagrams_are_for_whom_the_rule_names",
    "tests/netns/test_acceptors.py::test_a_listener_older_than_the_first_rule_is_known_by_who_holds_it",
)
# Each has its twin on clsact, or asserts what only a tcx link can do.
NEED_TCX = {
    "tests/netns/test_life.py::test_only_what_a_rule_allows_arrives[4-tcx]",
    "tests/netns/test_life.py::test_only_what_a_rule_allows_arrives[6-tcx]",
    "tests/netns/test_life.py::test_a_link_pin_removed_by_hand_closes_the_port_until_it_is_mended",
    "tests/netns/test_life.py::test_a_device_moved_to_another_namespace_is_detached_and_picked_up[tcx]",
    "tests/netns/test_life.py::test_a_tcx_link_goes_with_its_device_into_another_namespace[True]",
    "tests/netns/test_tampering.py::test_a_deleted_qdisc_is_mended[tcx]",
    "tests/netns/test_tampering.py::test_a_device_made_anew_under_its_old_name_is_closed_and_filtered[tcx]",
    "tests/netns/test_tampering.py::test_what_a_device_in_another_namespace_lets_through[tcx]",
    "tests/netns/test_keep.py::test_a_kept_stream_goes_on_and_nothing_new_opens[tcx]",
    "tests/netns/test_acceptors.py::test_only_the_named_executable_accepts[tcx-4]",
    "tests/netns/test_acceptors.py::test_only_the_named_executable_accepts[tcx-6]",
    *(
        f"tests/netns/test_reject.py::{test}[{family}-{side}-tcx]"
        for test in ("test_a_rejected_connection_is_refused_at_once", "test_a_rejected_datagram_brings_an_icmp_error")
        for family in (4, 6)
        for side in ("egress", "ingress")
    ),
}
# Some six minutes where two processors are free for it; measured 350 s to 750 s on a busy machine.
GUEST_LIMIT_S = 1_500
CONSOLE_TAIL = 8_000

pytestmark = [pytest.mark.vm, pytest.mark.timeout(GUEST_LIMIT_S + 60)]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """One boot for all of this module's tests."""
    return run_in_guest(TESTS, tmp_path_factory.mktemp("guest"), limit_s=GUEST_LIMIT_S)


def test_the_guest_is_debians_kernel_and_ends_by_itself(guest: GuestRun) -> None:
    assert guest.kernel.startswith("6.1.")
    assert guest.status is not None, f"pytest did not end in {guest.seconds:.0f} s:\n{guest.console[-CONSOLE_TAIL:]}"
    assert sorted(result.test for result in guest.results) == sorted(guest.collected)


@pytest.mark.parametrize("file", sorted({test.partition("::")[0] for test in TESTS}))
def test_a_file_passes_in_the_guest(guest: GuestRun, file: str) -> None:
    results = [result for result in guest.results if result.test.startswith(f"{file}::")]
    assert any(result.outcome == "passed" for result in results), guest.console[-CONSOLE_TAIL:]
    failed = [f"{result.test}\n{result.text}" for result in results if result.outcome == "failed"]
    assert not failed, "\n\n".join(failed)


def test_nothing_is_skipped_in_the_guest_but_what_needs_tcx(guest: GuestRun) -> None:
    skipped = {result.test: result.text for result in guest.results if result.outcome == "skipped"}
    assert skipped == dict.fromkeys(NEED_TCX, f"Skipped: {NO_TCX}")
