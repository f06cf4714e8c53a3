"""The tenant's language: parsing, compiling to slices, explaining, proving. Pure: no I/O, no clock.

parse_sources → PolicySet → compile_policy(…, Numbers) → Compiled.slice_for(host) → HostSlice → diff_slices → SliceDelta
"""

from hostward.policy.check import AssertionResult, check
from hostward.policy.compiler import Compiled, compile_policy
from hostward.policy.delta import SliceDelta, apply_delta, diff_slices
from hostward.policy.document import PlatformPolicy, PolicySet, TenantPolicy, parse_sources
from hostward.policy.encoding import decode_slice, digest_of, encode_slice, slice_digest
from hostward.policy.explain import Explanation, explain
from hostward.policy.extents import Extent, Extents
from hostward.policy.findings import Finding, Severity
from hostward.policy.later import unsupported
from hostward.policy.lint import lint
from hostward.policy.numbers import Allocator, Numbers

__all__ = [
    "Allocator",
    "AssertionResult",
    "Compiled",
    "Explanation",
    "Extent",
    "Extents",
    "Finding",
    "Numbers",
    "PlatformPolicy",
    "PolicySet",
    "Severity",
    "SliceDelta",
    "TenantPolicy",
    "apply_delta",
    "check",
    "compile_policy",
    "decode_slice",
    "diff_slices",
    "digest_of",
    "encode_slice",
    "explain",
    "lint",
    "parse_sources",
    "slice_digest",
    "unsupported",
]
