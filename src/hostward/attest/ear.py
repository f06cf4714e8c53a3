"""An appraisal as an EAT Attestation Result (draft-ietf-rats-ear-04) in a JWT, for who relies on it and is not Hostward."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from hostward.attest.appraisal import Appraisal
from hostward.attest.findings import Aspect, Tier
from hostward.errors import EvidenceError

_PROFILE = "tag:ietf.org,2026:rats/ear#04"
_DEVELOPER = "Hostward"
_SUBMODULE = "host"


def ear_claims(
    appraisal: Appraisal, nonce: bytes, issued: datetime, life: timedelta, build: str, policy: str
) -> dict[str, Any]:
    """The claims; the vector has an aspect only if a finding speaks of it. ``policy`` identifies the reference values."""
    vector: dict[str, int] = {}
    for aspect in Aspect:
        tiers = [finding.tier.value for finding in appraisal.findings if finding.rule.aspect is aspect]
        if tiers:
            vector[aspect.value] = max(tiers)
    against = [finding.shown() for finding in appraisal.findings if finding.tier is not Tier.AFFIRMING]
    submodule: dict[str, Any] = {
        "ear_status": appraisal.tier.name.lower(),
        "ear_trustworthiness_vector": vector,
        "ear_appraisal_policy_ids": [policy],
        "ear_verifier_claims": {
            "host": appraisal.endorsement.ek if appraisal.endorsement else "",
            "findings": against,
        },
    }
    return {
        "eat_profile": _PROFILE,
        "iat": int(issued.timestamp()),
        "exp": int((issued + life).timestamp()),
        "eat_nonce": base64.urlsafe_b64encode(nonce).rstrip(b"=").decode(),
        "ear_verifier_id": {"developer": _DEVELOPER, "build": build},
        "submods": {_SUBMODULE: submodule},
    }


def sign_ear(claims: Mapping[str, Any], private_key_pem: bytes) -> str:
    """A JWT by ES256 (P-256) or Ed25519 (RFC 9864), by the kind of key. Raises EvidenceError."""
    for kind, algorithm, curve in ((ECKey, "ES256", "P-256"), (OKPKey, "Ed25519", "Ed25519")):
        try:
            key = kind.import_key(private_key_pem)
        except (JoseError, ValueError, TypeError):
            continue
        if key.curve_name == curve:
            return jwt.encode({"alg": algorithm}, dict(claims), key, algorithms=[algorithm])
    raise EvidenceError("the key that signs results is no private P-256 or Ed25519 key in PEM")
