"""Evidence of a TPM (swtpm, see tests/data/attest/make-vectors) through `hostward attest`, true and changed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

DATA = Path(__file__).parents[2] / "data" / "attest"
NONCE = bytes(range(32)).hex()
AT = "2026-12-01T00:00:00Z"


def attest(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hostward.cli.main", "attest", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


def verify(folder: Path, *words: str | Path, nonce: str = NONCE) -> tuple[int, dict[str, Any]]:
    done = attest("verify", folder, "--nonce", nonce, "--at", AT, "-o", "json", *words)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"findings": [], "error": done.stderr}


def failing(answer: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in answer["findings"] if finding["tier"] == "contraindicated"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "ecdsa", tmp_path / "evidence")


@pytest.mark.parametrize("name", ["ecdsa", "rsassa", "rsapss"])
def test_quotes_of_each_scheme_are_genuine(name: str) -> None:
    status, answer = verify(DATA / name, "--without", "reference")
    assert (status, answer["verdict"]) == (0, "warning")
    assert answer["ima_entries"] == 5
    assert answer["last"]["revision"] == 41


def test_without_reference_values_nothing_is_known() -> None:
    status, answer = verify(DATA / "ecdsa")
    assert status == 1
    assert failing(answer) == {"reference.present"}


def test_a_key_that_is_not_restricted_proves_nothing() -> None:
    status, answer = verify(DATA / "unrestricted", "--without", "reference")
    assert status == 1
    assert failing(answer) == {"ak.attributes"}


def test_a_replayed_quote_is_refused() -> None:
    status, answer = verify(DATA / "ecdsa", "--without", "reference", nonce="ff" * 32)
    assert status == 1
    assert failing(answer) == {"quote.fresh"}


def test_learning_signing_and_judging(folder: Path) -> None:
    learnt = attest("learn", folder, "--nonce", NONCE, "--at", AT, "--label", "rack 4")
    assert learnt.returncode == 0
    key = Ed25519PrivateKey.generate()
    for name in ("reference", "reference-keys"):
        (folder / "verifier" / name).mkdir()
    values = folder / "verifier" / "reference" / "rack-4.json"
    values.write_text(learnt.stdout)
    values.with_name("rack-4.json.sig").write_bytes(key.sign(learnt.stdout.encode()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "verifier" / "reference-keys" / "operator.pem").write_bytes(public)
    status, answer = verify(folder)
    assert status == 0
    assert answer["verdict"] == "warning"  # of /var/log/journal, which was written while it was read
    assert {each["rule"] for each in answer["findings"] if each["tier"] == "warning"} == {"ima.violation"}

    text = attest("verify", folder, "--nonce", NONCE, "--at", AT)
    assert "ima.violation: /var/log/journal was written while it was read" in text.stdout
    assert "why: " in text.stdout

    (folder / "verifier" / "last.json").write_text(json.dumps(answer["last"]))
    (folder / "ima").write_bytes(b"")  # nothing new since the checkpoint
    status, answer = verify(folder)
    assert (status, answer["verdict"]) == (0, "affirming")

    values.write_text(learnt.stdout + " ")
    status, answer = verify(folder)
    assert status == 1
    assert "signed by none of the keys that may" in answer["error"]


def test_the_result_as_a_jwt(folder: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    done = attest("verify", folder, "--nonce", NONCE, "--at", AT, "--ear", tmp_path / "key.pem")
    assert done.returncode == 1
    claims = jwt.decode(done.stdout.strip(), ECKey.import_key(pem), algorithms=["ES256"]).claims
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert base64.urlsafe_b64decode(claims["eat_nonce"] + "=").hex() == NONCE
    host = claims["submods"]["host"]
    assert host["ear_status"] == "contraindicated"
    assert host["ear_trustworthiness_vector"] == {
        "instance-identity": 2,
        "configuration": 2,
        "executables": 96,
        "file-system": 2,
        "hardware": 2,
    }
    (tmp_path / "key.pem").write_text("no key")
    refused = attest("verify", folder, "--nonce", NONCE, "--at", AT, "--ear", tmp_path / "key.pem")
    assert refused.returncode == 1
    assert "no private P-256 or Ed25519 key" in refused.stderr


def test_an_evicted_maker_and_an_impostor(folder: Path) -> None:
    (folder / "verifier" / "roots" / "maker.pem").unlink()
    status, answer = verify(folder, "--without", "reference")
    assert (status, failing(answer)) == (1, {"ek.endorsed"})
    (finding,) = (each for each in answer["findings"] if each["rule"] == "ek.endorsed")
    assert "the maker id:00001014 is unknown" in finding["what"]
    shutil.copy(DATA / "rsassa" / "verifier" / "enrolled.json", folder / "verifier" / "enrolled.json")
    status, answer = verify(folder, "--without", "reference", "--without", "endorsement")
    assert (status, failing(answer)) == (1, {"ak.impostor"})


def test_text_of_the_ima_list_is_as_good(folder: Path) -> None:
    from hostward.attest.ima import Checkpoint, TemplateMemory, parse_ima

    lines = []
    for entry in parse_ima((folder / "ima").read_bytes(), Checkpoint(), TemplateMemory()):
        template = entry.template
        listed = "0" * 40 if entry.violation else template.template_hash.hex()
        signature = f" {template.signature.hex()}" if template.name == "ima-sig" else ""
        lines.append(f"10 {listed} {template.name} sha256:{template.digest.hex()} {template.path}{signature}\n")
    (folder / "ima").write_text("".join(lines))
    assert verify(folder, "--without", "reference")[0] == 0


def test_what_a_host_calls_its_files_is_not_obeyed_by_a_terminal(folder: Path) -> None:
    from bench.attester import file_digest, host

    other = host(files=0)
    other.ima.add("/tmp/\x1b]0;evil\x07\n", file_digest("x"))
    evidence = other.evidence(bytes(32))
    assert other.binding is not None
    described = {"tls_key": other.binding.tls_key.hex(), "revision": other.binding.revision}
    for name, content in (
        ("quote.msg", evidence.quote),
        ("quote.sig", evidence.signature),
        ("ak.pub", evidence.ak),
        ("eventlog", evidence.event_log),
        ("ima", evidence.ima),
        ("binding.json", json.dumps(described).encode()),
    ):
        (folder / name).write_bytes(content)
    key = Ed25519PrivateKey.generate()
    for name in ("reference", "reference-keys"):
        (folder / "verifier" / name).mkdir()
    values = b'{"format": "hostward-reference-values/1"}'
    (folder / "verifier" / "reference" / "none.json").write_bytes(values)
    (folder / "verifier" / "reference" / "none.json.sig").write_bytes(key.sign(values))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "verifier" / "reference-keys" / "operator.pem").write_bytes(public)
    done = attest("verify", folder, "--nonce", "00" * 32)
    assert done.returncode == 1
    assert r"/tmp/\x1b]0;evil\x07\n is not known" in done.stdout
    assert "\x1b" not in done.stdout


def test_files_that_are_wrong_are_named(folder: Path) -> None:
    for name, content, why in (
        ("binding.json", "[]", "no JSON object"),
        ("binding.json", '{"tls_key": "zz"}', "ValueError"),
        ("binding.json", '{"other": 1}', "unknown fields other"),
        ("verifier/last.json", '{"clock_ms": 1}', "KeyError"),
        ("verifier/roots/maker.pem", "-----BEGIN", "certificates in PEM"),
    ):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text(content)
        done = attest("verify", folder, "--nonce", NONCE)
        assert done.returncode == 1
        assert str(folder / name) in done.stderr
        assert why in done.stderr
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)
    (folder / "quote.msg").unlink()
    done = attest("verify", folder, "--nonce", NONCE)
    assert done.returncode == 1
    assert "quote.msg: cannot be read" in done.stderr


def test_wrong_usage() -> None:
    for words in (
        ("--nonce", "xyz"),
        ("--nonce", NONCE, "--without", "everything"),
        ("--nonce", NONCE, "--at", "noon"),
    ):
        assert attest("verify", DATA / "ecdsa", *words).returncode == 2
    assert attest("verify", DATA / "nothing-here", "--nonce", NONCE).returncode == 1


def test_a_boot_log_as_json(folder: Path, tmp_path: Path) -> None:
    done = attest("eventlog", folder / "eventlog")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert set(answer["banks"]) == {"sha1", "sha256"}
    verified = verify(folder, "--without", "reference")[1]
    assert answer["banks"]["sha256"] == verified["pcrs"]
    assert any(
        event["data"] == {"variable": "SecureBoot", "vendor": "EFI_GLOBAL_VARIABLE", "value": True}
        for event in answer["events"]
    )
    cut = tmp_path / "cut"
    cut.write_bytes((folder / "eventlog").read_bytes()[:-1])
    done = attest("eventlog", cut)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"{cut}: offset " in done.stderr
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(100_000_000)
    done = attest("eventlog", huge)
    assert done.returncode == 1
    assert "longer than" in done.stderr
