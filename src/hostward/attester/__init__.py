"""The Attester of RFC 9334: this host's TPM, what was measured into it, and evidence of both (ADR 21).

Needs the extra `hostward[tpm]`. The Verifier, `hostward.attest`, does not.
"""

from hostward.attester.attester import Attester, AttesterSettings, Collected
from hostward.attester.endorsement import TpmIdentity

__all__ = ["Attester", "AttesterSettings", "Collected", "TpmIdentity"]
