"""Evidence over the real conversation: what good evidence earns, and what bad evidence takes away and why."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bench.attester import boot_log, host, ima_list
from tests.unit.controller.attesting import LIMIT_S, Site, SoftwareTpm, site
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hostward.agent.identity import SERVER_NAME, client_context
from hostward.controller.attestation.settings import AttestationMode
from hostward.errors import ConflictError
from hostward.gate.messages import Mode
from hostward.store.records import HostState


async def channel_answer(site: Site, folder: Path) -> str:
    """Why the channel port closes on who shows the identity in a folder; empty if it waits for a hello."""
    context = client_context(folder, site.controller.membership.authority.pem)
    address = "wss://{}:{}/channel".format(*site.server.channel_address)
    async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as connection:
        try:
            async with asyncio.timeout(1.0):
                await connection.wait_closed()
        except TimeoutError:
            return ""
        return connection.close_reason or ""


def state_of(site: Site, host: str) -> HostState:
    return site.controller.ledger.state.hosts[host].state


def test_good_evidence_earns_a_channel_and_an_open_port(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                earned = await h1.attesting.identity()
            assert state_of(here, "h1") is HostState.ADMITTED
            assert earned.host == "h1"
            assert await channel_answer(here, h1.attesting.folder) == ""
            # What it joined by opens no channel.
            assert "no good evidence" in await channel_answer(here, tmp_path / "h1")
            await here.until(lambda: here.link.gate.state("p1").grant_left_ms > 0)
            assert not here.link.driver.offer("p1", from_host=True)  # half a lease opens nothing
            h1.sentinel.pulse(here.link, "p1")
            assert here.link.driver.offer("p1", from_host=True)

    asyncio.run(run())


def forge_signature(tpm: SoftwareTpm) -> None:
    tpm.spoil = lambda evidence: replace(evidence, signature=evidence.signature[:-1] + b"\0")


def cut_boot_log(tpm: SoftwareTpm) -> None:
    tpm.spoil = lambda evidence: replace(evidence, event_log=evidence.event_log[:-40])


def run_unknown_file(tpm: SoftwareTpm) -> None:
    tpm.host.ima.add("/usr/bin/evil", bytes(32))


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (forge_signature, "quote.genuine: "),
        (cut_boot_log, "log.readable: "),
        (run_unknown_file, "ima.file: "),
    ],
    ids=["signature", "boot log", "files"],
)
def test_bad_evidence_takes_channel_and_network_at_once(
    tmp_path: Path, spoil: Callable[[SoftwareTpm], None], rule: str
) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            await here.until(lambda: here.link.gate.state("p1").grant_left_ms > 0)
            h1.sentinel.pulse(here.link, "p1")
            assert here.link.driver.offer("p1", from_host=True)
            spoil(tpm)
            h1.attesting.changed()
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)
            await here.until(lambda: here.link.gate.state("p1").mode is Mode.QUARANTINE)
            assert not here.link.driver.offer("p1", from_host=True)
            assert "untrusted" in await channel_answer(here, h1.attesting.folder)
            assert [text[: len(rule)] for text in here.runner.attestation.standing("h1").against] == [rule]

    asyncio.run(run())


def test_good_evidence_brings_a_host_back_without_an_operator(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            forge_signature(tpm)
            h1.attesting.changed()
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)
            tpm.spoil = lambda evidence: evidence
            h1.attesting.changed()
            await here.until(lambda: state_of(here, "h1") is HostState.ADMITTED)
            await here.until(lambda: here.link.gate.state("p1").grant_left_ms > 0)

    asyncio.run(run())


def test_a_host_that_was_refused_earns_another_certificate_when_it_is_good_again(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                before = await h1.attesting.identity()
            forge_signature(tpm)
            h1.attesting.changed()
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)
            tpm.spoil = lambda evidence: evidence
            h1.attesting.changed()
            await here.until(lambda: state_of(here, "h1") is HostState.ADMITTED)
            # Control: what it had earned before is worth nothing now.
            assert await h1.attesting.identity() == before
            assert "no good evidence" in await channel_answer(here, h1.attesting.folder)
            h1.attesting.refused()
            h1.attesting.changed()
            async with asyncio.timeout(LIMIT_S):
                assert await h1.attesting.identity() != before
            assert await channel_answer(here, h1.attesting.folder) == ""

    asyncio.run(run())


def test_in_audit_mode_a_host_that_never_was_good_has_its_channel(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm, mode=AttestationMode.AUDIT) as here:
            run_unknown_file(tpm)
            async with here.host("h1", tpm) as h1, asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
                assert here.runner.attestation.standing("h1").against
                assert await channel_answer(here, h1.attesting.folder) == ""

    asyncio.run(run())


def test_in_audit_mode_bad_evidence_is_told_of_and_takes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm, mode=AttestationMode.AUDIT) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            forge_signature(tpm)
            h1.attesting.changed()
            await here.until(lambda: bool(here.runner.attestation.standing("h1").against))
            assert state_of(here, "h1") is HostState.ADMITTED
            assert await channel_answer(here, tmp_path / "h1") == ""

    asyncio.run(run())


def test_another_tpm_in_the_hosts_place_is_refused_with_both_names(tmp_path: Path) -> None:
    async def run() -> None:
        tpm, other = SoftwareTpm(), SoftwareTpm()
        async with site(tmp_path, tpm, other) as here:
            async with here.host("h1", tpm) as h1, asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            ours = here.runner.attestation.standing("h1")
            assert ours.record is not None
            await here.until(lambda: not ours.connected)
            refused = await attest_once(here, tmp_path / "h1", other)
            assert "its TPM is" in refused
            assert ours.record.ek[:16] in refused
            assert state_of(here, "h1") is HostState.ADMITTED  # nobody loses a host by failing in its name

    asyncio.run(run())


async def attest_once(here: Site, folder: Path, tpm: SoftwareTpm) -> str:
    """Present a TPM with the identity in a folder; why the connection was closed."""
    from hostward.agent.attestation_messages import ATTESTATION_VERSION, Present
    from hostward.agent.messages import encode

    context = client_context(folder, here.controller.membership.authority.pem)
    address = "wss://{}:{}/attest".format(*here.server.channel_address)
    keys = tpm.identity()
    async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as connection:
        present = Present(ATTESTATION_VERSION, keys.ek, keys.ak, keys.ek_certificate, keys.intermediates)
        await connection.send(encode(present))
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    await connection.recv(decode=False)
        except ConnectionClosed:
            return connection.close_reason or ""


def test_the_tpm_of_one_host_does_not_make_another(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            async with here.host("h2", tpm):
                await here.until(lambda: "host h1's" in here.runner.attestation.standing("h2").refused)
            assert state_of(here, "h2") is HostState.UNTRUSTED

    asyncio.run(run())


def test_a_credential_for_another_attestation_key_opens_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        stranger = SoftwareTpm(replace(host(), ek=tpm.host.ek, maker=tpm.host.maker))

        class Relaying(SoftwareTpm):
            """Shows the EK of the one and the AK of the other."""

            def activate(self, credential: bytes, secret: bytes) -> bytes:
                return bytes(32)  # its TPM says: integrity check failed

        relayed = Relaying(stranger.host)
        async with site(tmp_path, tpm) as here, here.host("h1", relayed):
            await here.until(lambda: "attestation key" in here.runner.attestation.standing("h1").refused)
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)

    asyncio.run(run())


def test_a_reboot_is_a_new_epoch_and_an_older_boot_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            epochs = []
            for resets in (3, 4):
                tpm.host.resets = resets
                async with here.host("h1", tpm) as h1, asyncio.timeout(LIMIT_S):
                    await h1.attesting.identity()
                    assert h1.sentinel.told is not None
                    epochs.append(h1.sentinel.told[1])
            assert epochs == [1, 2]
            tpm.host.resets = 3
            async with here.host("h1", tpm):
                await here.until(lambda: bool(here.runner.attestation.standing("h1").against))
            (against,) = here.runner.attestation.standing("h1").against
            assert against.startswith("quote.epoch: the quote is of boot 3, and boot 4 was seen already")
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)

    asyncio.run(run())


def test_a_controller_that_starts_anew_refuses_a_boot_that_the_last_one_saw_end(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        tpm.host.resets = 4
        trusted = SoftwareTpm(replace(tpm.host))
        async with site(tmp_path, trusted) as here, here.host("h1", tpm) as h1, asyncio.timeout(LIMIT_S):
            await h1.attesting.identity()
        tpm.host.resets = 3
        async with site(tmp_path, trusted) as here, here.host("h1", tpm):
            assert state_of(here, "h1") is HostState.ADMITTED
            await here.until(lambda: bool(here.runner.attestation.standing("h1").against))
            assert here.runner.attestation.standing("h1").against[0].startswith("quote.epoch")
            await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)

    asyncio.run(run())


def test_a_gate_that_saw_later_boots_than_a_restored_database_knows_is_caught_up_with(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            here.link.gate.apply("p1", here.link.sign("p1", epoch=7, mode=Mode.QUARANTINE))
            async with here.host("h1", tpm) as h1:
                async with asyncio.timeout(LIMIT_S):
                    await h1.attesting.identity()
                await here.until(lambda: here.link.gate.state("p1").grant_left_ms > 0)
                await here.until(lambda: h1.sentinel.told is not None and h1.sentinel.told[1] == 8)
                h1.sentinel.pulse(here.link, "p1")
                assert here.link.driver.offer("p1", from_host=True)

    asyncio.run(run())


def test_a_host_that_says_no_more_keeps_its_grants_as_long_as_its_evidence_is_fresh(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm, evidence_s=1.0) as here:
            async with here.host("h1", tpm) as h1, asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            await here.until(lambda: "too old" in here.runner.granter.views("h1")[0].trouble)
            assert state_of(here, "h1") is HostState.ADMITTED  # silence is no crime, and earns nothing

    asyncio.run(run())


def test_what_a_gate_missed_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            here.link.away = True
            async with here.host("h1", tpm) as h1:
                async with asyncio.timeout(LIMIT_S):
                    await h1.attesting.identity()
                await here.until(lambda: "does not answer" in here.runner.granter.views("h1")[0].trouble)
                here.link.away = False
                await here.until(lambda: here.link.gate.state("p1").grant_left_ms > 0)

    asyncio.run(run())


def test_an_evicted_host_is_cut_off(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here, here.host("h1", tpm) as h1:
            async with asyncio.timeout(LIMIT_S):
                await h1.attesting.identity()
            await here.controller.move_host("h1", HostState.EVICTED, "operator")
            await here.until(lambda: here.link.gate.state("p1").mode is Mode.CUT)
            assert await here.runner.release("h1") == ["gate/p1"]
            assert here.link.gate.state("p1").mode is Mode.QUARANTINE

    asyncio.run(run())


def test_admitting_a_host_whose_evidence_is_bad_leaves_it_untrusted(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            tpm.host.log = boot_log(commands=59)
            tpm.host.ima = ima_list(tpm.host.log, [])
            async with here.host("h1", tpm):
                await here.until(lambda: bool(here.runner.attestation.standing("h1").against))
                await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)
                with pytest.raises(ConflictError):
                    await here.controller.move_host("h1", HostState.ADMITTED, "operator")
                await here.controller.move_host("h1", HostState.QUARANTINED, "operator")
                await here.controller.move_host("h1", HostState.ADMITTED, "operator")
                await here.until(lambda: state_of(here, "h1") is HostState.UNTRUSTED)

    asyncio.run(run())


def test_others_are_told_when_a_host_is_trusted_and_when_no_longer(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with listener() as (url, told), site(tmp_path, tpm, webhooks=(url,)) as here, here.host("h1", tpm) as h1:
            first = await told.get()
            assert (first["event"], first["host"], first["against"]) == ("trusted", "h1", [])
            forge_signature(tpm)
            h1.attesting.changed()
            second = await told.get()
            assert (second["event"], second["host"], second["audit"]) == ("untrusted", "h1", False)
            assert second["against"][0].startswith("quote.genuine")
            assert here.runner.attestation.webhooks.lost == {url: 0}

    asyncio.run(run())


@contextlib.asynccontextmanager
async def listener() -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, object]]]]:
    """A web server that refuses the first request of all, and then takes what comes."""
    told: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    refused = False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r")[0])
                body = await reader.readexactly(length)
                status = "200 OK" if refused else "503 Busy"
                if refused:
                    told.put_nowait(json.loads(body))
                refused = True
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(LIMIT_S):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", told
