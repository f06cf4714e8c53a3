"""A whole host is measured from its firmware on, and has a network only while what was measured is known.

The host is a QEMU guest with OVMF, a TPM, Debian's kernel and IMA; gate, controller and the node that it speaks with are
outside of it. From its boot on two senders never cease: one of the host itself, which no policy concerns, and one of an
endpoint. Every judgement is made of what arrives at the node's socket, and of what the controller says was the reason.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.host_image import DATAPATH_OBJECT, make_host_image, with_one_byte_changed
from tests.vm.host_site import MANAGEMENT_TAP, UPLINK_TAP, HostSite
from tests.vm.whole_host import WholeHost

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

# Of each sender, while nothing of it may arrive.
UNHEARD = 50
WAIT_S = 120.0
# The kernel measured another datapath, and so did the monitor.
AGAINST = {("ima.file", str(DATAPATH_OBJECT)), ("monitor.component", f"object:{DATAPATH_OBJECT.name}")}
SHOWN = 6_000  # characters


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "image"
    folder.mkdir()
    try:
        yield make_host_image(folder)
    finally:
        shutil.rmtree(folder)  # pytest keeps its folders, and this is big


def test_only_a_host_that_is_what_is_known_has_a_network(image: Path, tmp_path: Path) -> None:
    with HostSite(tmp_path) as site:
        host = WholeHost(tmp_path / "host", site.gate_namespace, MANAGEMENT_TAP, UPLINK_TAP)
        try:
            site.start(host.authority)
            state = admitted_and_cut(site, host, image)
            host.power_off()
            never_admitted(site, host, with_one_byte_changed(image, DATAPATH_OBJECT), state)
            host.power_off()
            admitted_again(site, host, image, state)
        except BaseException:
            for name, text in (*((kind, log.read_text()) for kind, log in site.logs.items()), ("host", host.console())):
                print(f"-- the end of what the {name} said:\n{text[-SHOWN:]}")
            raise
        finally:
            host.power_off()


def admitted_and_cut(site: HostSite, host: WholeHost, image: Path) -> bytes:
    """A sound boot, then a write to a measured file; the agent's state."""
    host.boot(image)
    unheard(site, host, "host")
    host.start_daemons(token=site.token())
    row = site.await_host(lambda row: any(gate["open"] for gate in row["gates"]))
    assert row["state"] == "admitted", row
    site.node.await_heard("host", WAIT_S)
    site.attach_endpoint()
    site.node.await_heard("endpoint", WAIT_S, lambda heard: heard.answered > 0)
    learnt = site.learn()
    assert {"firmware", "boot-loader", "boot-files"} <= learnt["components"].keys()
    assert {"/init", str(DATAPATH_OBJECT), "hostward:package"} <= learnt["files"].keys()
    site.node.await_heard("endpoint", WAIT_S)
    state = host.state()

    written_s = time.monotonic()
    host.order(f"echo >>{DATAPATH_OBJECT}")
    row = site.await_host(lambda row: row["state"] == "untrusted" and not any(gate["open"] for gate in row["gates"]))
    for who in ("host", "endpoint"):
        unheard(site, host, who)
        last_s = site.node.heard(who)[-1].at_s
        print(f"measured file written -> last datagram of the {who}: {1e3 * (last_s - written_s):.0f} ms")
    print(f"the TPM takes {host.signing_ms():.0f} ms for a quote of it")
    # Evidence that was asked for by chance, in the midst of it, may name one of them only.
    site.await_host(lambda _: named(site) >= AGAINST)
    return state


def never_admitted(site: HostSite, host: WholeHost, image: Path, state: bytes) -> None:
    """The next boot, with one byte of the datapath changed."""
    boots = site.host()["boot"]
    site.node.forget()
    host.boot(image)
    host.start_daemons(state=state)
    row = site.await_host(lambda row: row["boot"] > boots and row["evidence"] != "none")
    assert row["evidence"] == "bad", row
    assert row["state"] == "untrusted", row
    assert named(site) >= AGAINST
    for who in ("host", "endpoint"):
        unheard(site, host, who)
    assert site.node.heard() == []


def admitted_again(site: HostSite, host: WholeHost, image: Path, state: bytes) -> None:
    """Control of the boot before: with that byte as it was, the host has its network again, and so its endpoint."""
    site.node.forget()
    host.boot(image)
    unheard(site, host, "host")
    host.start_daemons(state=state)
    row = site.await_host(lambda row: row["state"] == "admitted")
    assert not row["against"], row
    for who in ("host", "endpoint"):
        site.node.await_heard(who, WAIT_S, lambda heard: heard.answered > 0)


def named(site: HostSite) -> set[tuple[str, str]]:
    """What speaks against the host: each rule, with what it is about."""
    return {
        (each["rule"], each["what"].rpartition(" of ")[2].removesuffix(" is not known")) for each in site.findings()
    }


def unheard(site: HostSite, host: WholeHost, who: str) -> None:
    """A sender goes on, and nothing of what it sends from now on arrives."""
    sent = host.sent(who)
    end_s = time.monotonic() + WAIT_S
    while host.sent(who) < sent + UNHEARD:
        assert time.monotonic() < end_s, f"the {who} does not send"
    assert [heard for heard in site.node.heard(who) if heard.number > sent] == []
