"""The paper's case: what the policy allows passes, what it does not allow is seen not to arrive."""

from __future__ import annotations

import secrets
from functools import partial

from hostward.lab.demo.claims import Claims, require
from hostward.lab.demo.stage import APP, APP_VM, CLIENT, DB, EVIL, TCP, UDP, WEB, WEB_2, Stage, now, told
from hostward.lab.frames import address_bytes
from hostward.lab.traffic import DENIED_LIMIT_S, ping

_ALLOWED = (
    (CLIENT, WEB, 80, TCP),
    (CLIENT, WEB_2, 443, TCP),
    (WEB, APP, 8080, TCP),
    (WEB, APP, 8125, UDP),
    (WEB, APP_VM, 8080, TCP),
    (WEB_2, APP, 8080, TCP),
    (APP, DB, 5432, TCP),
)
_DENIED = (
    (CLIENT, APP, 8080, TCP),
    (CLIENT, DB, 5432, TCP),
    (CLIENT, APP_VM, 8080, TCP),
    (WEB, DB, 5432, TCP),
    (WEB, APP, 22, TCP),
    (DB, APP, 8080, TCP),
    (DB, APP, 8125, UDP),
    (EVIL[0], WEB, 80, TCP),
    (EVIL[2], DB, 5432, TCP),
)


def _name(port: int, kind: int) -> str:
    return f"{'tcp' if kind == TCP else 'udp'}/{port}"


def claim_all(claims: Claims, stage: Stage) -> None:
    """The whole chapter."""
    claims.chapter("A three-tier policy, enforced at every host")
    for source, destination, port, kind in _ALLOWED:
        claims.hold(
            f"{source} reaches {destination} on {_name(port, kind)}",
            partial(_passes, stage, source, destination, port, kind),
        )
    claims.hold(f"the machine {APP_VM} reaches {DB} on tcp/5432", lambda: _machine_passes(stage))
    claims.hold(f"{WEB} pings {APP}, and {DB} pings {WEB}: echo within the tenant", lambda: _pings(stage))
    for source, destination, port, kind in _DENIED:
        claims.hold(
            f"{source} does not reach {destination} on {_name(port, kind)}",
            partial(_stops, stage, source, destination, port, kind),
        )
    claims.hold(f"the machine {APP_VM} does not reach {WEB} on tcp/80", lambda: _machine_stops(stage))
    claims.hold(f"{EVIL[0]} cannot ping {WEB}", lambda: _ping_stops(stage))
    claims.hold("mail to the internet is denied by the platform, whatever tenants say", lambda: _mail_stops(stage))


def _passes(stage: Stage, source: str, destination: str, port: int, kind: int) -> str:
    # The VM's own listener is IPv4 and IPv6 alike.
    for version in (4, 6):
        require(stage.probe(source, destination, port, kind, version).reach(), f"no answer over IPv{version}")
    return "the nonce came back over IPv4 and IPv6"


def _stops(stage: Stage, source: str, destination: str, port: int, kind: int) -> str:
    since = now()
    for version in (4, 6):
        stage.denied(source, destination, port, kind, version)
    addresses = {stage.address(destination, version) for version in (4, 6)}
    flows = stage.evidence(since, lambda f: f["dst"]["ip"] in addresses and f["dst"]["port"] == port)
    return f"0 packets at the sink, IPv4 and IPv6\n{told(flows)}"


def _machine_passes(stage: Stage) -> str:
    for version in (4, 6):
        nonce = secrets.token_hex(8)
        script = f"(echo {nonce}; sleep 1) | nc -w 3 {stage.address(DB, version)} 5432"
        finished = stage.lab.machine(APP_VM).run_script(script)
        require(nonce.encode() in finished.output, f"no answer over IPv{version}: {finished.errors!r}")
    return "the nonce came back over IPv4 and IPv6"


def _machine_stops(stage: Stage) -> str:
    since = now()
    target = stage.address(WEB, 4)
    with stage.sink(WEB) as sink:
        finished = stage.lab.machine(APP_VM).run_script(f"echo hello | nc -w 1 {target} 80")
        require(finished.status != 0, "the connection was made")
        pair = address_bytes(stage.address(APP_VM, 4)) + address_bytes(target)
        arrived = sum(pair in frame for frame in sink.collect(stage.marker(WEB)))
    require(arrived == 0, f"{arrived} packets arrived")
    return f"0 packets at the sink\n{told(stage.evidence(since, lambda f: f['dst']['ip'] == target))}"


def _pings(stage: Stage) -> str:
    for source, destination in ((WEB, APP), (DB, WEB), (WEB, APP_VM)):
        for version in (4, 6):
            nonce = secrets.token_bytes(8)
            where = stage.namespace(source)
            answered = ping(where, stage.address(source, version), stage.address(destination, version), nonce)
            require(answered, f"{destination} does not answer {source} over IPv{version}")
    return "answered over IPv4 and IPv6, the machine too"


def _ping_stops(stage: Stage) -> str:
    since = now()
    for version in (4, 6):
        nonce = secrets.token_bytes(8)
        with stage.sink(WEB) as sink:
            source, target = stage.address(EVIL[0], version), stage.address(WEB, version)
            answered = ping(stage.namespace(EVIL[0]), source, target, nonce, DENIED_LIMIT_S)
            arrived = sum(nonce in frame for frame in sink.collect(stage.marker(WEB)))
        require(not answered and not arrived, f"{arrived} echo requests arrived")
    flows = stage.evidence(since, lambda f: f["tenant"] == "mallory" and str(f["proto"]).startswith("icmp"))
    return f"0 packets at the sink\n{told(flows)}"


def _mail_stops(stage: Stage) -> str:
    since = now()
    address = stage.address(CLIENT, 4)
    require(not stage.probe(EVIL[0], CLIENT, 25, TCP, 4).reach(DENIED_LIMIT_S), "the connection was made")
    flows = stage.evidence(since, lambda f: f["dst"]["ip"] == address and f["dst"]["port"] == 25)
    require(any(str(flow["rule"]).startswith("platform/") for flow in flows), "it was not the platform's rule")
    return told(flows)
