"""Endorsement keys of each form that makers use, in a software TPM."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.attester.machine import Machine

from hostward.attest.credential import make_credential
from hostward.attest.ek_certificate import endorse
from hostward.attest.public import check_endorsement_key, parse_public
from hostward.attester.attestation_key import attestation_key
from hostward.attester.endorsement import FORMS, Form, endorsement_key
from hostward.attester.tpm import Tpm
from hostward.errors import TpmError

RSA, ECC_P256, _, _, ECC_P384_HIGH = FORMS
IDS = ["RSA", "P-256", "RSA, high range", "P-256, high range", "P-384, high range"]


@pytest.fixture
def tpm(machine: Machine) -> Iterator[Tpm]:
    tpm = Tpm(machine.tcti)
    yield tpm
    tpm.close()


@pytest.mark.parametrize(("form", "handle"), [(RSA, 0x81010001), (ECC_P384_HIGH, 0x81010016)])
def test_templates_give_the_very_key_that_the_maker_certified(
    machine: Machine, tpm: Tpm, form: Form, handle: int
) -> None:
    kept, certificate, intermediates = endorsement_key(tpm, [form])
    assert not kept.transient
    assert kept.public == tpm.persistent_key(handle).public
    made = tpm.create_endorsement_key(form.area())
    assert made.public == kept.public
    tpm.flush(made)
    found = endorse(
        parse_public(kept.public), certificate, intermediates, machine.roots, frozenset(), datetime.now(UTC)
    )
    assert found.model == "swtpm"


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_a_credential_is_opened_under_each_form(tpm: Tpm, tmp_path: Path, form: Form) -> None:
    ek = endorsement_key(tpm, [form])[0]
    ak = attestation_key(tpm, ek, tmp_path)
    key = parse_public(ek.public)
    check_endorsement_key(key)
    secret = secrets.token_bytes(32)
    credential = make_credential(key, ak.name, secret, secrets.token_bytes(key.hash.size))
    assert tpm.activate(ak, ek, credential.id_object, credential.encrypted_secret) == secret
    tpm.flush(ak)
    again = attestation_key(tpm, ek, tmp_path)
    assert again.public == ak.public


def test_without_a_certificate_the_first_form_is_made(tpm: Tpm) -> None:
    ek, certificate, _ = endorsement_key(tpm, [ECC_P256])
    assert certificate is None
    assert ek.transient


@pytest.mark.parametrize("template", [False, True])
def test_what_the_maker_changed_in_a_template_is_heeded(tpm: Tpm, template: bool) -> None:
    usual = tpm.create_endorsement_key(ECC_P256.area())
    tpm.define_nv(ECC_P256.nonce, b"\x01" * 20)
    if template:
        tpm.define_nv(ECC_P256.template, ECC_P256.area())
    changed = endorsement_key(tpm, [ECC_P256])[0]
    assert changed.public != usual.public
    assert changed.public == tpm.create_endorsement_key(ECC_P256.area(b"\x01" * 20)).public


def test_a_nonce_that_is_too_long_is_refused(tpm: Tpm) -> None:
    tpm.define_nv(ECC_P256.nonce, bytes(33))
    with pytest.raises(TpmError, match="nonce has 33 bytes"):
        endorsement_key(tpm, [ECC_P256])


def test_certificates_between_are_read_over_several_indices_and_padding(machine: Machine, tpm: Tpm) -> None:
    there = endorsement_key(tpm)[2]
    assert len(there) == 1
    one = there[0]
    tpm.define_nv(0x01C00101, one[:700])
    tpm.define_nv(0x01C00102, one[700:] + b"\xff" * 100)
    assert endorsement_key(tpm)[2] == (one, one)
