"""The Verifier: whether what a host sends proves what it booted and runs (ADR 21).

Pure functions over bytes: no input or output, no clock, no TPM library. Every byte here may come from a hostile host, so
whatever cannot be read raises EvidenceError and nothing else, in bounded time and memory.
"""
