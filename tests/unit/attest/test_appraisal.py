"""A host's evidence judged as a whole: each attack is refused by its rule, and without the attack the host passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bench.attester import (
    AK_ATTRIBUTES,
    NOW,
    QUOTED,
    SEPARATOR,
    BootLog,
    Host,
    boot_log,
    file_digest,
    host,
    ima_list,
    public_area,
    quote_message,
    selection,
    sign,
    sized,
    variable,
)
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hostward.attest.algorithms import SHA1, SHA256
from hostward.attest.appraisal import Appraisal, Evidence, Trust, appraise
from hostward.attest.binding import Binding
from hostward.attest.certificate import parse_certificate
from hostward.attest.ek_certificate import ek_hash
from hostward.attest.epoch import Epoch
from hostward.attest.eventlog import EventType, parse_event_log
from hostward.attest.findings import WAIVABLE, Rule, Tier
from hostward.attest.learning import learn
from hostward.attest.memory import VerifierMemory
from hostward.attest.public import parse_public
from hostward.attest.quote import Clock
from hostward.attest.reference import Reference, read_reference
from hostward.errors import EvidenceError

NONCE = b"n" * 32
GOOD = host()


def reference_of(good: Host, **changes: Any) -> Reference:
    trust = Trust(roots=[parse_certificate(good.maker.root())], enrolled_ak=good.ak_name())
    document = dict(learn(appraise(good.evidence(NONCE), trust, NONCE, NOW, VerifierMemory()), "good"))
    return read_reference([json.dumps({**document, **changes}).encode()])


REFERENCE = reference_of(GOOD)
TRUST = Trust(
    roots=[parse_certificate(GOOD.maker.root())], reference=REFERENCE, enrolled_ak=GOOD.ak_name(), inventory=frozenset()
)


def judge(evidence: Evidence, trust: Trust = TRUST, nonce: bytes = NONCE) -> Appraisal:
    return appraise(evidence, trust, nonce, NOW, VerifierMemory())


def against(result: Appraisal) -> set[Rule]:
    return {finding.rule for finding in result.findings if finding.tier is Tier.CONTRAINDICATED}


def with_boot(log: BootLog) -> Host:
    """The good host, booted in another way; its IMA list is of that boot."""
    return replace(GOOD, log=log, ima=ima_list(log, [f"/usr/bin/tool-{number}" for number in range(20)]))


def test_a_good_host_is_affirmed_and_every_finding_speaks_for_it() -> None:
    result = judge(GOOD.evidence(NONCE))
    assert result.tier is Tier.AFFIRMING
    assert {finding.tier for finding in result.findings} == {Tier.AFFIRMING}
    assert result.endorsement is not None
    assert result.epoch is not None
    assert result.checkpoint is not None
    assert result.checkpoint.entries == len(result.entries) == 21


def message(**changes: Any) -> bytes:
    assert GOOD.binding is not None
    arguments: dict[str, Any] = {"resets": 3, **changes}
    return quote_message(
        arguments.pop("data", GOOD.binding.qualifying_data(NONCE)),
        arguments.pop("digest", GOOD.digest()),
        arguments.pop("selections", (selection(SHA256, QUOTED),)),
        **arguments,
    )


def _unrestricted() -> Evidence:
    area = public_area(GOOD.ak, attributes=AK_ATTRIBUTES & ~0x10000)
    return replace(GOOD.evidence(NONCE), ak=sized(area))


def _impostor() -> Evidence:
    other = replace(GOOD, ak=ec.generate_private_key(ec.SECP256R1()), ek=ec.generate_private_key(ec.SECP256R1()))
    return other.evidence(NONCE)


def _changed_log(change: Callable[[bytearray], object]) -> Evidence:
    data = bytearray(GOOD.log.data)
    change(data)
    return replace(GOOD.evidence(NONCE), event_log=bytes(data))


def _changed_ima(change: Callable[[bytearray], bytes]) -> Evidence:
    return replace(GOOD.evidence(NONCE), ima=change(bytearray(GOOD.ima.data)))


def _flip_digest(data: bytearray) -> None:
    data[data.index(SHA256.digest(b"shim"))] ^= 1


def _first_file_twice(data: bytearray) -> bytes:
    size, one = (len(ima_list(GOOD.log, paths).data) for paths in ([], ["/usr/bin/tool-0"]))
    return bytes(data[:one] + data[size:])


def _first_two_swapped(data: bytearray) -> bytes:
    size = len(ima_list(GOOD.log, []).data)
    one = len(ima_list(GOOD.log, ["/usr/bin/tool-0"]).data) - size
    return bytes(data[:size] + data[size + one : size + 2 * one] + data[size : size + one] + data[size + 2 * one :])


ATTACKS: dict[str, tuple[Callable[[], Evidence], Rule]] = {
    "an unrestricted key": (_unrestricted, Rule.AK_ATTRIBUTES),
    "another TPM": (_impostor, Rule.AK_IMPOSTOR),
    "no TPM made it": (lambda: GOOD.evidence(NONCE, message(magic=0)), Rule.QUOTE_GENUINE),
    "a certification in place of a quote": (lambda: GOOD.evidence(NONCE, message(kind=0x8017)), Rule.QUOTE_GENUINE),
    "a signature by another key": (
        lambda: replace(GOOD.evidence(NONCE), signature=sign(GOOD.ek, message())),
        Rule.QUOTE_GENUINE,
    ),
    "a replayed quote": (lambda: GOOD.evidence(b"o" * 32), Rule.QUOTE_FRESH),
    "a relayed quote": (
        lambda: replace(GOOD.evidence(NONCE), binding=Binding(tls_key=b"the relay's", revision=7)),
        Rule.QUOTE_FRESH,
    ),
    "another revision than is claimed": (
        lambda: replace(GOOD.evidence(NONCE), binding=Binding(tls_key=b"tls", revision=8)),
        Rule.QUOTE_FRESH,
    ),
    "the nonce without what binds it": (lambda: GOOD.evidence(NONCE, message(data=NONCE)), Rule.QUOTE_FRESH),
    "no PCR": (lambda: GOOD.evidence(NONCE, message(selections=())), Rule.QUOTE_SELECTION),
    "an empty bank": (lambda: GOOD.evidence(NONCE, message(selections=(selection(SHA256, ()),))), Rule.QUOTE_SELECTION),
    "a weak bank": (lambda: GOOD.evidence(NONCE, message(selections=(selection(SHA1, QUOTED),))), Rule.QUOTE_SELECTION),
    "without PCR 7": (
        lambda: GOOD.evidence(NONCE, message(selections=(selection(SHA256, [p for p in QUOTED if p != 7]),))),
        Rule.QUOTE_SELECTION,
    ),
    "without a PCR that the log extends": (
        lambda: GOOD.evidence(NONCE, message(selections=(selection(SHA256, [p for p in QUOTED if p != 14]),))),
        Rule.QUOTE_SELECTION,
    ),
    "other PCR values": (lambda: GOOD.evidence(NONCE, message(digest=bytes(32))), Rule.LOG_EXPLAINS),
    "a log with a changed digest": (lambda: _changed_log(_flip_digest), Rule.LOG_EXPLAINS),
    "a log cut off": (lambda: _changed_log(lambda data: data.__delitem__(slice(-1, None))), Rule.LOG_READABLE),
    "a log whose last event is missing": (
        lambda: replace(GOOD.evidence(NONCE), event_log=_without_last()),
        Rule.LOG_EXPLAINS,
    ),
    "a log twice": (lambda: _changed_log(lambda data: data.extend(_events(bytes(data)))), Rule.LOG_EXPLAINS),
    "a log of another bank": (
        lambda: replace(GOOD.evidence(NONCE), event_log=bytes(boot_log((SHA1,)).data)),
        Rule.QUOTE_SELECTION,
    ),
    "no log": (lambda: replace(GOOD.evidence(NONCE), event_log=b""), Rule.LOG_READABLE),
    "an IMA list cut off": (lambda: _changed_ima(lambda data: bytes(data[:-1])), Rule.LOG_READABLE),
    "an IMA list in another order": (lambda: _changed_ima(_first_two_swapped), Rule.LOG_EXPLAINS),
    "an IMA entry twice": (lambda: _changed_ima(_first_file_twice), Rule.LOG_EXPLAINS),
    "no IMA list": (lambda: _changed_ima(lambda data: b""), Rule.LOG_EXPLAINS),
    "no endorsement": (lambda: replace(GOOD.evidence(NONCE), ek=b""), Rule.EK_ENDORSED),
    "an attestation key as endorsement": (
        lambda: replace(GOOD.evidence(NONCE), ek=public_area(GOOD.ek)),
        Rule.EK_ATTRIBUTES,
    ),
    "a maker nobody knows": (
        lambda: replace(GOOD.evidence(NONCE), ek_certificate=host().maker.endorse(GOOD.ek)),
        Rule.EK_ENDORSED,
    ),
}


def _events(data: bytes) -> bytes:
    return data[len(BootLog().data) :]


def _without_last() -> bytes:
    return bytes(GOOD.log.data[: parse_event_log(bytes(GOOD.log.data)).events[-1].offset])


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_its_rule(name: str) -> None:
    make, rule = ATTACKS[name]
    result = judge(make())
    assert result.tier is Tier.CONTRAINDICATED
    assert against(result) == {rule}, [finding.shown() for finding in result.findings]
    (finding,) = (each for each in result.findings if each.rule is rule and each.tier is Tier.CONTRAINDICATED)
    assert finding.what
    assert finding.rule.why
    assert result.checkpoint is None


def _other_shim(log: BootLog) -> None:
    log.add(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"", b"another program")


def _event(pcr: int, kind: int, data: bytes, measured: bytes | None = None) -> Callable[[BootLog], None]:
    return lambda log: log.add(pcr, kind, data, measured)


SURPRISES: dict[str, tuple[Callable[[BootLog], None], Rule]] = {
    "an unknown program": (_other_shim, Rule.BOOT_COMPONENT),
    "an unknown command": (_event(8, EventType.EV_IPL, b"grub_cmd: insmod evil", b"insmod evil"), Rule.BOOT_COMPONENT),
    "boot devices left out": (_event(4, EventType.EV_OMIT_BOOT_DEVICE_EVENTS, b""), Rule.BOOT_SURPRISE),
    "an image among the keys": (_event(7, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"", b"x"), Rule.BOOT_SURPRISE),
    "Secure Boot measured afterwards": (
        _event(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1")),
        Rule.BOOT_SURPRISE,
    ),
    "a second separator": (_event(4, EventType.EV_SEPARATOR, SEPARATOR), Rule.BOOT_SEPARATORS),
    "a separator by another name": (_event(4, EventType.EV_IPL, b"harmless", SEPARATOR), Rule.BOOT_SEPARATORS),
    "a program that is called a separator": (_event(4, EventType.EV_SEPARATOR, SEPARATOR, b"evil"), Rule.BOOT_DATA),
    "a program that is called an action": (
        _event(4, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation", b"evil"),
        Rule.BOOT_COMPONENT,
    ),
    "an error in place of a separator": (_event(0, EventType.EV_SEPARATOR, b"\1\0\0\0"), Rule.BOOT_ERROR),
}


@pytest.mark.parametrize("name", SURPRISES)
def test_a_surprising_boot_fails_although_the_quote_is_genuine(name: str) -> None:
    change, rule = SURPRISES[name]
    log = boot_log()
    change(log)
    result = judge(with_boot(log).evidence(NONCE))
    assert rule in against(result), [finding.shown() for finding in result.findings]
    assert Rule.LOG_EXPLAINS not in against(result)
    last = parse_event_log(bytes(log.data)).events[-1]
    assert str(last) in {finding.where for finding in result.findings if finding.rule is rule}


def test_harmless_differences_warn() -> None:
    log = boot_log()
    log.add(1, EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0009", b""))
    log.add(6, 0x1234, b"of a vendor")
    result = judge(with_boot(log).evidence(NONCE))
    assert result.tier is Tier.WARNING
    warned = {finding.rule for finding in result.findings if finding.tier is Tier.WARNING}
    assert warned == {Rule.BOOT_SETTING, Rule.BOOT_UNKNOWN}


def test_secure_boot_off_is_seen_whatever_the_log_calls_it() -> None:
    result = judge(with_boot(boot_log(secure_boot=False)).evidence(NONCE))
    assert Rule.BOOT_SECURE in against(result)
    # An attacker renames the true event, closes the PCR by a nameless separator, and begins again.
    log = BootLog()
    log.add(7, EventType.EV_EFI_VARIABLE_BOOT2, variable("SecureBoot", b"\0"))
    log.add(7, EventType.EV_IPL, b"nothing", SEPARATOR)
    log.add(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"))
    log.add(7, EventType.EV_SEPARATOR, SEPARATOR)
    result = judge(with_boot(log).evidence(NONCE))
    assert {Rule.BOOT_SECURE, Rule.BOOT_SURPRISE, Rule.BOOT_SEPARATORS, Rule.BOOT_DATA} <= against(result)
    # Or hides what the true event was.
    log = BootLog()
    log.add(7, EventType.EV_IPL, b"nothing", variable("SecureBoot", b"\0"))
    log.add(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"))
    log.add(7, EventType.EV_SEPARATOR, SEPARATOR)
    assert Rule.BOOT_SECURE in against(judge(with_boot(log).evidence(NONCE)))


def with_files(*paths: str, violation: str = "", changed: str = "") -> Host:
    listed = ima_list(GOOD.log, [f"/usr/bin/tool-{number}" for number in range(20)])
    for path in paths:
        listed.add(path, file_digest(path))
    if violation:
        listed.add(violation, bytes(32), violation=True)
    if changed:
        listed.add(changed, file_digest("something else"))
    return replace(GOOD, ima=listed)


def test_files_that_are_not_known_fail() -> None:
    result = judge(with_files("/tmp/evil").evidence(NONCE))
    assert against(result) == {Rule.IMA_FILE}
    result = judge(with_files(changed="/usr/bin/tool-3").evidence(NONCE))
    (finding,) = (each for each in result.findings if each.tier is Tier.CONTRAINDICATED)
    assert finding.expected == f"sha256:{file_digest('/usr/bin/tool-3').hex()}"
    # The same content under another name is another file.
    listed = ima_list(GOOD.log, [])
    listed.add("/usr/bin/tool-1", file_digest("/usr/bin/tool-2"))
    assert against(judge(replace(GOOD, ima=listed).evidence(NONCE))) == {Rule.IMA_FILE}
    many = judge(with_files(*(f"/tmp/{number}" for number in range(500))).evidence(NONCE))
    shown = [each for each in many.findings if each.rule is Rule.IMA_FILE]
    assert len(shown) < 30
    assert "480 more" in {each.what for each in shown}


def test_violations_fail_for_known_files_and_warn_for_others() -> None:
    assert against(judge(with_files(violation="/usr/bin/tool-3").evidence(NONCE))) == {Rule.IMA_VIOLATION}
    assert judge(with_files(violation="/var/log/journal").evidence(NONCE)).tier is Tier.WARNING


def test_another_kernel_by_kexec_fails() -> None:
    listed = ima_list(GOOD.log, [])
    listed.add("boot_aggregate", bytes(32))
    assert Rule.IMA_RESTART in against(judge(replace(GOOD, ima=listed).evidence(NONCE)))


def test_a_list_of_another_boot_fails() -> None:
    listed = ima_list(boot_log(commands=1), [])
    assert against(judge(replace(GOOD, ima=listed).evidence(NONCE))) == {Rule.IMA_AGGREGATE}


def test_the_quote_may_cover_a_prefix_of_the_list() -> None:
    evidence = GOOD.evidence(NONCE)
    longer = with_files("/tmp/evil", "/tmp/more")
    result = judge(replace(evidence, ima=bytes(longer.ima.data)))
    assert result.tier is Tier.AFFIRMING  # what came after the quote is judged with the next
    assert len(result.entries) == 21
    assert result.checkpoint is not None
    assert result.checkpoint.offset == len(GOOD.ima.data)


def test_an_appraisal_resumes_from_its_checkpoint() -> None:
    first = judge(GOOD.evidence(NONCE))
    assert first.checkpoint is not None
    trust = replace(TRUST, last=first.epoch, checkpoint=first.checkpoint)
    later = replace(with_files("/tmp/evil"), clock_ms=70_000)
    rest = bytes(later.ima.data)[first.checkpoint.offset :]
    evidence = replace(later.evidence(NONCE), ima=rest)
    assert against(judge(evidence, trust)) == {Rule.IMA_FILE}
    same = replace(GOOD, clock_ms=70_000)
    again = judge(replace(same.evidence(NONCE), ima=b""), trust)
    assert again.tier is Tier.AFFIRMING
    assert again.checkpoint == first.checkpoint
    # Another boot, or other reference values, begin at the start.
    rebooted = replace(GOOD, resets=4)
    assert against(judge(replace(rebooted.evidence(NONCE), ima=b""), trust)) == {Rule.QUOTE_EPOCH}
    changed = replace(trust, reference=reference_of(GOOD, tolerated=[{"path": "/x", "why": "y"}]))
    assert Rule.LOG_READABLE in against(judge(replace(same.evidence(NONCE), ima=b""), changed))


def test_older_evidence_is_refused() -> None:
    last = Epoch(GOOD.ak_name(), Clock(60_001, 3, 0, True), b"", 7)
    assert against(judge(GOOD.evidence(NONCE), replace(TRUST, last=last))) == {Rule.QUOTE_EPOCH}
    assert (
        judge(GOOD.evidence(NONCE), replace(TRUST, last=replace(last, clock=Clock(59_999, 3, 0, True)))).tier
        is Tier.AFFIRMING
    )


def test_several_banks_are_rebuilt_and_a_strong_one_is_judged() -> None:
    both = host(banks=(SHA1, SHA256))
    trust = replace(TRUST, roots=[parse_certificate(both.maker.root())], enrolled_ak=both.ak_name())
    pcrs = b"".join(
        {**both.log.values[bank.name], 10: both.ima.values[bank.name]}.get(pcr, bytes(bank.size))
        for bank in (SHA1, SHA256)
        for pcr in QUOTED
    )
    assert both.binding is not None
    selections = (selection(SHA1, QUOTED), selection(SHA256, QUOTED))
    quote = quote_message(both.binding.qualifying_data(NONCE), SHA256.digest(pcrs), selections)
    result = judge(both.evidence(NONCE, quote), trust)
    assert result.tier is Tier.AFFIRMING
    assert result.boot is not None
    assert result.boot.bank is SHA256


def test_a_quote_over_the_nonce_alone_warns() -> None:
    result = judge(replace(GOOD, binding=None).evidence(NONCE))
    assert result.tier is Tier.WARNING
    assert {each.rule for each in result.findings if each.tier is Tier.WARNING} == {Rule.QUOTE_BOUND}


def test_an_enrolled_key_beside_another_tpms_endorsement_is_an_impostor() -> None:
    ek = ek_hash(parse_public(GOOD.evidence(NONCE).ek))
    trust = replace(TRUST, enrolled_ek=ek)
    assert judge(GOOD.evidence(NONCE), trust).tier is Tier.AFFIRMING
    other = replace(GOOD, ek=ec.generate_private_key(ec.SECP256R1())).evidence(NONCE)
    assert judge(other, TRUST).tier is Tier.AFFIRMING  # without the record this would pass: both are genuine
    assert against(judge(other, trust)) == {Rule.AK_IMPOSTOR}


def test_rsa_hosts_are_judged_alike() -> None:
    other = host(ak=rsa.generate_private_key(65537, 2048))
    trust = replace(TRUST, roots=[parse_certificate(other.maker.root())], enrolled_ak=other.ak_name())
    assert judge(other.evidence(NONCE), trust).tier is Tier.AFFIRMING


def test_what_is_missing_fails_unless_the_operator_does_without_by_name() -> None:
    bare = Trust()
    evidence = replace(with_boot(boot_log(secure_boot=False)).evidence(NONCE), ek_certificate=None)
    assert against(judge(evidence, bare)) == {Rule.EK_ENDORSED, Rule.AK_ENROLLED, Rule.BOOT_SECURE, Rule.REFERENCE}
    result = judge(evidence, replace(bare, without=frozenset(WAIVABLE)))
    assert result.tier is Tier.WARNING
    # Doing without them does not do without the rest.
    assert against(judge(_unrestricted(), replace(bare, without=frozenset(WAIVABLE)))) == {Rule.AK_ATTRIBUTES}
    assert against(judge(_impostor(), replace(TRUST, without=frozenset(WAIVABLE)))) == {Rule.AK_IMPOSTOR}


def test_a_host_without_ima_is_judged_by_its_boot_if_the_operator_says_so() -> None:
    pcrs = [pcr for pcr in QUOTED if pcr != 10]
    quote = message(selections=(selection(SHA256, pcrs),), digest=GOOD.digest(pcrs=pcrs))
    for ima in (b"", bytes(with_files("/tmp/evil").ima.data)):  # a list that is not quoted is not believed
        evidence = replace(GOOD.evidence(NONCE, quote), ima=ima)
        assert against(judge(evidence)) == {Rule.QUOTE_SELECTION}
        result = judge(evidence, replace(TRUST, without=frozenset({"ima"})))
        assert result.tier is Tier.WARNING
        assert len(result.entries) == 0
        assert {each.rule for each in result.findings if each.tier is Tier.WARNING} == {Rule.IMA_AGGREGATE}


def test_findings_are_bounded_whatever_a_log_holds() -> None:
    log = boot_log()
    for number in range(500):
        log.add(6, 0x1000 + number, b"x")
    result = judge(with_boot(log).evidence(NONCE))
    assert result.tier is Tier.WARNING
    assert len(result.findings) < 60
    assert "480 more" in {each.what for each in result.findings if each.rule is Rule.BOOT_UNKNOWN}


def test_values_that_were_replaced_pass_for_their_grace() -> None:
    path, digest = "/usr/bin/tool-1", f"sha256:{file_digest('/usr/bin/tool-1').hex()}"
    for ago, tier in ((1, Tier.WARNING), (30, Tier.CONTRAINDICATED)):
        files = dict(REFERENCE.paths)
        replaced = (NOW - timedelta(days=ago)).isoformat()
        reference = reference_of(GOOD, files={**files, path: [{"digest": digest, "replaced": replaced}]})
        result = judge(GOOD.evidence(NONCE), replace(TRUST, reference=reference))
        assert result.tier is tier, ago
    components: dict[str, list[dict[str, Any]]] = {
        name: [{"digests": {b: [d.hex() for d in ds] for b, ds in each.digests.items()}} for each in alternatives]
        for name, alternatives in REFERENCE.parts.items()
    }
    components["firmware"][0]["replaced"] = (NOW - timedelta(days=1)).isoformat()
    reference = reference_of(GOOD, components=components)
    result = judge(GOOD.evidence(NONCE), replace(TRUST, reference=reference))
    assert {each.rule for each in result.findings if each.tier is Tier.WARNING} == {Rule.BOOT_SUPERSEDED}


def test_nothing_is_learnt_where_nothing_is_proven() -> None:
    with pytest.raises(EvidenceError, match="does not prove the logs"):
        learn(judge(GOOD.evidence(NONCE, message(digest=bytes(32)))), "bad")
