"""``explain`` and the oracle answer alike about endpoints and addresses."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.policy import explain
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import EXECUTABLES, NOW, OUTSIDE_ADDRESSES, World, without, worlds

_PORTS = {"tcp/80": (6, 80), "tcp/444": (6, 444), "udp/53": (17, 53), "icmp/echo-request": (1, 8), "esp": (50, 0)}


@given(worlds(("default",)), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_explain_answers_as_the_oracle(world: World, data: st.DataObject) -> None:
    # Who accepts is not asked, so that an answer which depends on it is mixed.
    world = without(world, "at")
    oracle = Oracle(world.policies, NOW)
    for endpoint in world.endpoints:
        if len(endpoint.addresses) > 1:
            continue  # its addresses may differ, and the answer be mixed
        local = Party("default", endpoint.addresses[0], endpoint)
        peers = [e for e in world.endpoints if len(e.addresses) == 1]
        names = {f"endpoint:{e.id}": Party("default", e.addresses[0], e) for e in peers}
        names |= {address: party(world.endpoints, "default", address) for address in OUTSIDE_ADDRESSES}
        name = data.draw(st.sampled_from(sorted(names)))
        port = data.draw(st.sampled_from(sorted(_PORTS)))
        for ends, pair in (
            ((f"endpoint:{endpoint.id}", name), (local, names[name])),
            ((name, f"endpoint:{endpoint.id}"), (names[name], local)),
        ):
            process = data.draw(st.sampled_from([executable for executable in EXECUTABLES if executable]))
            said = explain(world.policies, world.endpoints, *ends, port, NOW, revision=3, process=process)
            # The processes of who is no endpoint are not known.
            answer = oracle.decide(*pair, *_PORTS[port], (process if pair[0].endpoint else None, None))
            assert said.verdict == answer.verdict, (ends, port)
            assert said.revision == 3
            if answer.rules:
                assert said.rules == answer.rules
                assert said.rule == answer.rules[0]
            assert not {lost.rule for lost in said.lost} & set(said.rules)
