"""Evidence that was made to deceive, over the real conversation: the exact rule, that host untrusted, another untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bench.attester import (
    EK_ATTRIBUTES,
    Host,
    Maker,
    ima_list,
    public_area,
    quote_message,
    selection,
    sign,
    sized,
)
from tests.unit.controller.attesting import LIMIT_S, Site, SoftwareTpm, site
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from hostward.agent.attestation_messages import (
    ATTESTATION_VERSION,
    PRESENT_LIMIT_BYTES,
    Activate,
    Activated,
    Ask,
    Present,
    Tell,
    Verdict,
    decode_from_verifier,
)
from hostward.agent.identity import SERVER_NAME, client_context
from hostward.agent.messages import encode
from hostward.attest.algorithms import SHA1, SHA256
from hostward.attest.binding import Binding
from hostward.gate.messages import Mode
from hostward.store.records import HostState

QUOTED = (*range(10), 10, 14)
BOUND = Binding(tls_key=b"its own key", pulse_key=bytes(32), boot_id=b"boot 3", revision=1)
Answer = Callable[[Host, Ask], Tell]


def quote(
    host: Host,
    nonce: bytes,
    *,
    bound: Binding = BOUND,
    selections: Sequence[bytes] = (selection(SHA256, QUOTED),),
    resets: int = 3,
    clock_ms: int | None = None,
    magic: int = 0xFF544347,
) -> bytes:
    """What the host's TPM would sign."""
    host.clock_ms += 1
    at_ms = host.clock_ms if clock_ms is None else clock_ms
    data = bound.qualifying_data(nonce)
    return quote_message(data, host.digest(), selections, clock_ms=at_ms, resets=resets, magic=magic)


def tell(host: Host, message: bytes, *, log: bytes | None = None, ima: bytes | None = None) -> Tell:
    """A quote and the logs beside it, or others."""
    return Tell(
        message,
        sign(host.ak, message),
        bytes(host.log.data) if log is None else log,
        bytes(host.ima.data) if ima is None else ima,
        b"",
        BOUND.tls_key,
        BOUND.pulse_key,
        BOUND.boot_id,
        BOUND.revision,
        {},
        {},
    )


def honest(host: Host, ask: Ask) -> Tell:
    return tell(host, quote(host, ask.nonce))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


def files(host: Host, change: Callable[[list[str]], list[str]]) -> bytes:
    """The host's own list with its files changed, each entry right in itself."""
    paths = [line.split()[4] for line in host.ima.text[1:]]
    assert bytes(ima_list(host.log, paths).data) == bytes(host.ima.data)
    return bytes(ima_list(host.log, change(paths)).data)


def log_of(host: Host, change: Callable[[bytes], bytes], ask: Ask) -> Tell:
    return tell(host, quote(host, ask.nonce), log=change(bytes(host.log.data)))


def ima_of(host: Host, change: Callable[[list[str]], list[str]], ask: Ask) -> Tell:
    return tell(host, quote(host, ask.nonce), ima=files(host, change))


DECEITS: dict[str, tuple[str, str, Answer]] = {
    "boot log cut off": ("log.readable", "", lambda h, a: log_of(h, lambda log: log[:-5], a)),
    "boot log's last event left out": (
        "log.explains-quote",
        "no prefix",
        lambda h, a: log_of(h, lambda log: log[: log.rindex(b"Exit Boot") - 50], a),
    ),
    "boot log's last event twice": (
        "log.explains-quote",
        "no prefix",
        lambda h, a: log_of(h, lambda log: log + log[log.rindex(b"Exit Boot") - 50 :], a),
    ),
    "bit of a boot digest": (
        "log.explains-quote",
        "no prefix",
        lambda h, a: log_of(h, lambda log: flipped(log, log.rindex(b"Exit Boot") - 10), a),
    ),
    "bit of what is logged of Secure Boot": (
        "boot.secure-boot",
        "",
        lambda h, a: log_of(h, lambda log: flipped(log, log.index("SecureBoot".encode("utf-16-le")) + 20), a),
    ),
    "files left out": ("log.explains-quote", "no prefix", lambda h, a: ima_of(h, lambda paths: paths[:-1], a)),
    "files in another order": ("log.explains-quote", "no prefix", lambda h, a: ima_of(h, lambda p: p[::-1], a)),
    "a file twice": ("log.explains-quote", "no prefix", lambda h, a: ima_of(h, lambda p: [p[0], *p], a)),
    "bit of an IMA entry": (
        "log.readable",
        "template hash",
        lambda h, a: tell(h, quote(h, a.nonce), ima=flipped(bytes(h.ima.data), len(h.ima.data) - 3)),
    ),
    "a bank that is too weak": (
        "quote.selection",
        "too weak",
        lambda h, a: tell(h, quote(h, a.nonce, selections=(selection(SHA1, QUOTED),))),
    ),
    "no PCR": ("quote.selection", "selection is empty", lambda h, a: tell(h, quote(h, a.nonce, selections=()))),
    "no TPM's magic": ("quote.genuine", "not TPM_GENERATED", lambda h, a: tell(h, quote(h, a.nonce, magic=0xFF544348))),
    "TPM started anew alone": (
        "quote.epoch",
        "the machine was not",
        lambda h, a: tell(h, quote(h, a.nonce, resets=4)),
    ),
    "TPM's clock set back": ("quote.epoch", "it is old", lambda h, a: tell(h, quote(h, a.nonce, clock_ms=1))),
    "replayed": ("quote.fresh", "qualifying data", lambda h, a: tell(h, quote(h, bytes(32)))),
    "relayed": (
        "quote.fresh",
        "qualifying data",
        lambda h, a: tell(h, quote(h, a.nonce, bound=replace(BOUND, tls_key=b"another's key"))),
    ),
}


def presented(host: Host, *, ak: bytes | None = None) -> Present:
    certificate, between = host.maker.endorse(host.ek), (host.maker.ca(),)
    ek = public_area(host.ek, attributes=EK_ATTRIBUTES, endorsement=True)
    return Present(ATTESTATION_VERSION, ek, ak or sized(public_area(host.ak)), certificate, between)


async def converse(here: Site, name: str, tpm: SoftwareTpm, present: Present, answer: Answer) -> Verdict | int:
    """Speak for a host that joined, until its first verdict; the code of the closing if there is none."""
    folder = here.folder / name
    context = client_context(folder, here.controller.membership.authority.pem)
    address = "wss://{}:{}/attest".format(*here.server.channel_address)
    async with (
        asyncio.timeout(LIMIT_S),
        connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as connection,
    ):
        try:
            await connection.send(encode(present))
            while True:
                message = decode_from_verifier(await connection.recv(decode=False))
                if isinstance(message, Activate):
                    secret = tpm.activate(message.id_object, message.encrypted_secret)
                    await connection.send(encode(Activated(secret)))
                elif isinstance(message, Ask):
                    await connection.send(encode(answer(tpm.host, message)))
                elif isinstance(message, Verdict):
                    return message
        except ConnectionClosed:
            return connection.close_code or 0


async def attested(here: Site, name: str, tpm: SoftwareTpm) -> None:
    """Join, attest, and leave."""
    async with here.host(name, tpm) as host, asyncio.timeout(LIMIT_S):
        await host.attesting.identity()
    await here.until(lambda: not here.runner.attestation.standing(name).connected)


def state_of(here: Site, name: str) -> HostState:
    return here.controller.ledger.state.hosts[name].state


def test_the_same_words_without_deceit_are_good(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            await attested(here, "h1", tpm)
            verdict = await converse(here, "h1", tpm, presented(tpm.host), honest)
            assert isinstance(verdict, Verdict)
            assert verdict.good, verdict.findings

    asyncio.run(run())


@pytest.mark.parametrize("name", DECEITS)
def test_a_deceit_is_refused_by_its_rule_and_touches_no_other_host(tmp_path: Path, name: str) -> None:
    rule, what, answer = DECEITS[name]

    async def run() -> None:
        tpm, other = SoftwareTpm(), SoftwareTpm()
        async with site(tmp_path, tpm, other, ports={"p1": "h1", "p2": "h2"}) as here, here.host("h2", other) as h2:
            async with asyncio.timeout(LIMIT_S):
                await h2.attesting.identity()
            await attested(here, "h1", tpm)
            assert state_of(here, "h1") is HostState.ADMITTED
            verdict = await converse(here, "h1", tpm, presented(tpm.host), answer)
            assert isinstance(verdict, Verdict)
            assert not verdict.good
            assert {found.split(": ")[0] for found in verdict.findings} == {rule}
            assert what in verdict.findings[0]
            assert state_of(here, "h1") is HostState.UNTRUSTED
            await here.until(lambda: here.link.gate.state("p1").mode is Mode.QUARANTINE)
            assert here.link.gate.state("p2").mode is Mode.OPEN
            assert state_of(here, "h2") is HostState.ADMITTED
            assert here.runner.attestation.standing("h2").good

    asyncio.run(run())


def test_a_key_that_is_not_restricted_gets_no_question(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            await here.enrol("h1")
            loose = sized(public_area(tpm.host.ak, attributes=0x00040072))

            def never(host: Host, ask: Ask) -> Tell:
                raise AssertionError("it was asked")

            assert await converse(here, "h1", tpm, presented(tpm.host, ak=loose), never) == 4001
            assert "restricted" in here.runner.attestation.standing("h1").refused
            assert state_of(here, "h1") is HostState.UNTRUSTED

    asyncio.run(run())


def test_a_tpm_of_an_unknown_maker_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        stranger = SoftwareTpm(replace(tpm.host, maker=Maker()))
        async with site(tmp_path, tpm) as here:
            await here.enrol("h1")
            verdict = await converse(here, "h1", stranger, presented(stranger.host), honest)
            assert isinstance(verdict, Verdict)
            assert [found.split(": ")[0] for found in verdict.findings] == ["ek.endorsed"]
            assert state_of(here, "h1") is HostState.UNTRUSTED
            assert here.runner.attestation.standing("h1").record is None

    asyncio.run(run())


def test_evidence_too_long_for_a_message_is_let_in_the_second_time_and_judged(tmp_path: Path) -> None:
    def long(host: Host, ask: Ask) -> Tell:
        return tell(host, quote(host, ask.nonce), ima=bytes(host.ima.data) + bytes(PRESENT_LIMIT_BYTES))

    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            await attested(here, "h1", tpm)
            assert await converse(here, "h1", tpm, presented(tpm.host), long) == CloseCode.MESSAGE_TOO_BIG
            assert state_of(here, "h1") is HostState.ADMITTED  # nobody judged it
            await here.until(lambda: not here.runner.attestation.standing("h1").connected)
            verdict = await converse(here, "h1", tpm, presented(tpm.host), long)
            assert isinstance(verdict, Verdict)
            assert verdict.findings[0].startswith("log.readable")

    asyncio.run(run())


def test_a_bad_answer_is_rested_for_on_a_new_connection_too(tmp_path: Path) -> None:
    async def run() -> None:
        tpm = SoftwareTpm()
        async with site(tmp_path, tpm) as here:
            await attested(here, "h1", tpm)
            forged = DECEITS["replayed"][2]
            await converse(here, "h1", tpm, presented(tpm.host), forged)
            standing = here.runner.attestation.standing("h1")
            await here.until(lambda: not standing.connected)
            rested_until_s = standing.rests_until_s
            assert rested_until_s > asyncio.get_running_loop().time()
            await converse(here, "h1", tpm, presented(tpm.host), forged)
            assert standing.at_s >= rested_until_s

    asyncio.run(run())
