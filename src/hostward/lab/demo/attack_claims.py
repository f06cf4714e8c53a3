"""The hostile tenant: the same frames first where nobody defends, so that the sink is seen to see them."""

from __future__ import annotations

from functools import partial

from hostward.lab.demo.claims import Claims, require
from hostward.lab.demo.stage import APP, APP_VM, DB, EVIL, WEB, Stage, now, told

_CASES = ((EVIL[0], APP, WEB), (EVIL[1], APP, WEB), (EVIL[2], DB, APP), (EVIL[1], APP_VM, WEB))

# Each must be told of.
_REASONS = frozenset(
    (
        "policy",
        "ip-spoof",
        "mac-spoof",
        "arp-spoof",
        "nd-spoof",
        "ra-spoof",
        "dhcp-spoof",
        "fragment",
        "vlan",
        "ethertype",
    )
)


def claim_control(claims: Claims, stage: Stage) -> None:
    """The negative control, to be made before Hostward runs."""
    claims.chapter("Without Hostward: what the sink sees when nobody defends")
    claims.hold(f"every attack of {EVIL[0]} arrives at {APP}", lambda: _control(stage))


def _control(stage: Stage) -> str:
    seen = stage.attack(EVIL[0], APP, WEB) | stage.scan(EVIL[0], APP)
    missing = [name for name, (sent, arrived) in seen.items() if arrived < sent]
    require(not missing, f"these did not arrive, so their absence would prove nothing: {', '.join(missing)}")
    return f"{len(seen)} kinds of attack, {sum(arrived for _, arrived in seen.values())} frames, all at the sink"


def claim_all(claims: Claims, stage: Stage) -> None:
    """The attacks under Hostward."""
    claims.chapter("A hostile tenant on the same hosts")
    for attacker, victim, borrowed in _CASES:
        claims.hold(
            f"nothing that {attacker} sends arrives at {victim}",
            partial(repelled, stage, attacker, victim, borrowed),
        )
    # Last: a scan uses up the events that its endpoint may cause.
    for attacker, victim, _ in _CASES:
        claims.hold(f"{attacker}'s scan of {victim} finds nothing", partial(_scanned, stage, attacker, victim))


def _scanned(stage: Stage, attacker: str, victim: str) -> str:
    seen = stage.scan(attacker, victim)
    arrived = sum(there for _, there in seen.values())
    require(arrived == 0, f"{arrived} SYNs arrived")
    return f"{sum(sent for sent, _ in seen.values())} SYNs sent over IPv4 and IPv6, 0 at the sink"


def repelled(stage: Stage, attacker: str, victim: str, borrowed: str) -> str:
    """Attack, and require that no frame arrives and that the denials are told."""
    since, host = now(), stage.lab.endpoint(attacker).host
    seen = stage.attack(attacker, victim, borrowed)
    arrived = [f"{name} ({there} of {sent})" for name, (sent, there) in seen.items() if there]
    require(not arrived, f"arrived: {', '.join(arrived)}")
    sent = sum(frames for frames, _ in seen.values())
    flows = stage.evidence(since, lambda f: f["host"] == host and f["tenant"] == "mallory", reasons=_REASONS)
    what = f"{len(seen)} kinds of attack, {sent} frames, 0 at the sink"
    return f"{what}; and `hostward observe` tells:\n{told(flows)}"
