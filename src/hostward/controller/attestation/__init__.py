"""Attestation at the controller: evidence is asked for, judged by ``hostward.attest``, and earns certificates and grants.

Nothing here reads a TPM's bytes itself, and nothing here opens a port: a gate does, by a grant that lapses unless renewed.
"""
