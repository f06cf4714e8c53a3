"""What the driver by AMT has that no other has: two timers of the firmware's, and a door that may lie."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hostward.errors import DatapathError, UsageError
from hostward.gate.amt.driver import AmtDriver, AmtPort
from hostward.gate.amt.policies import Policies, profile_filters
from hostward.gate.amt.wsman import WsMan
from hostward.gate.driver import FOREVER_NS
from hostward.gate.drivers import AmtMachine, make_driver
from hostward.gate.kernel import Hook, allowed
from tests.amt.firmware import EXPIRED
from tests.amt.server import PASSWORD, USER, Engine, engine
from tests.netns.gate_line import MS, Line
from tests.netns.pair import Pair

pytestmark = pytest.mark.netns


def client(at: Engine, password: str = PASSWORD) -> WsMan:
    return WsMan(at.url, USER, password, None)


@contextmanager
def machine(pair: Pair, **switches: object) -> Iterator[Engine]:
    pair.set_up()
    with engine(pair.device("a"), **switches) as made:
        yield made


def opened(at: Engine, seconds: int) -> tuple[AmtDriver, int]:
    """A driver that has opened the port and, as far as the firmware knows, is dead since: its thread does nothing."""
    gate = AmtDriver([AmtPort("p", client(at))])
    deadline = time.monotonic_ns() + seconds * 1_000 * MS
    gate.open_until("p", deadline)
    with gate._changed:
        gate._stopped = True
        gate._changed.notify()
    gate._keeper.join()
    return gate, deadline


@pytest.mark.parametrize(
    "switches",
    [
        {"timeouts": False},  # the watchdog alone
        {"activates": "0"},  # the policy's time-out alone: the watchdog's action means the opposite
    ],
    ids=str,
)
def test_either_timer_of_the_firmware_closes_the_port_alone(pair: Pair, switches: dict[str, object]) -> None:
    with machine(pair, **switches) as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        line.await_one()
        _, deadline = opened(at, 2)
        line.arrived()
        line.send_until(deadline + 1_100 * MS)
        stamps = line.arrived()
        assert stamps
        assert max(stamps) < deadline + 1_000 * MS


def test_without_either_timer_it_stays_open(pair: Pair) -> None:
    """The negative control: nothing else of the simulator closes it."""
    with machine(pair, timeouts=False, activates="0") as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        _, deadline = opened(at, 1)
        line.await_one()
        line.send_until(deadline + 1_100 * MS)
        assert max(line.arrived()) > deadline + 1_000 * MS


def test_without_the_cut_first_a_gate_that_comes_back_would_pass_something(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the next one."""
    with machine(pair) as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        first = AmtDriver([AmtPort("p", client(at))])
        first.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        first.close("p", profile=True)
        line.arrived()
        monkeypatch.setattr(Policies, "enable", lambda *_: None)
        sent_meanwhile(line, lambda: AmtDriver([AmtPort("p", client(at))]))
        assert line.arrived()


def sent_meanwhile(line: Line, work: Callable[[], AmtDriver]) -> AmtDriver:
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            line.send()

    sending = threading.Thread(target=send)
    sending.start()
    try:
        return work()
    finally:
        done.set()
        sending.join()


def test_a_gate_that_comes_back_passes_nothing_while_it_makes_its_policies_anew(pair: Pair) -> None:
    with machine(pair) as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        first = AmtDriver([AmtPort("p", client(at))])
        first.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        first.close("p", profile=True)
        line.arrived()
        second = sent_meanwhile(line, lambda: AmtDriver([AmtPort("p", client(at))]))
        assert line.arrived() == []
        second.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        assert len(at.firmware.policies) == 3
        assert len(at.firmware.watches) == 1
        assert len(at.firmware.filters) == len(profile_filters([]))
        second.remove()


def test_an_expired_watchdog_is_in_nobodys_way_once_the_port_is_opened_again(pair: Pair) -> None:
    with machine(pair) as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        gate = AmtDriver([AmtPort("p", client(at))])
        gate.open_until("p", time.monotonic_ns() + 1_000 * MS)
        (watch,) = at.firmware.watches.values()
        with at.firmware.lock:
            assert at.firmware.lock.wait_for(lambda: watch.state == EXPIRED, 30)
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        # The audit mode's: for ever, though nobody asserts anything.
        gate.open_until("p", time.monotonic_ns() + 1_000 * MS)
        gate.open_until("p", FOREVER_NS)
        line.send_until(time.monotonic_ns() + 2_100 * MS)
        line.arrived()
        assert line.send() in line.arrived()
        gate.remove()
        assert line.send() not in line.arrived()


def test_a_wrong_password_and_an_absent_engine_are_errors_that_name_the_machine(pair: Pair) -> None:
    with machine(pair) as at:
        with pytest.raises(DatapathError) as caught:
            AmtDriver([AmtPort("p", client(at, "wrong"))])
        assert caught.value.subject == at.url
        assert "password" in caught.value.what
        url = at.url
    with pytest.raises(DatapathError) as caught:
        AmtDriver([AmtPort("p", WsMan(url, USER, PASSWORD, None))])
    assert caught.value.subject == url


def certificate(folder: Path) -> Path:
    """Certificate and key of 127.0.0.1, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "amt")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "amt.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return path


def test_a_gate_makes_this_driver_over_tls_and_knows_the_machine_by_its_authority(pair: Pair, tmp_path: Path) -> None:
    chain, password = certificate(tmp_path), tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    with machine(pair) as at, ExitStack() as stack:
        at.secure(chain)
        place = AmtMachine("p", at.url, USER, password, chain)
        gate = make_driver([place], tmp_path, Hook.XDP, ())
        assert isinstance(gate, AmtDriver)
        stack.callback(gate.remove)
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        Line(pair, stack, ("a", "b")).await_one()
        with pytest.raises(DatapathError, match="CERTIFICATE"):
            make_driver([replace(place, authority=None)], tmp_path, Hook.XDP, ())
        with pytest.raises(UsageError):
            make_driver([replace(place, password=tmp_path / "none")], tmp_path, Hook.XDP, ())


@pytest.mark.parametrize(
    "answer",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b"<a>",
        b"\xff\xfe\x00",
        b"<a/>",
        b"<a>" + b"x" * (1 << 19) + b"</a>",
    ],
    ids=["entity", "file", "unended", "bytes", "no envelope", "long"],
)
def test_an_engine_that_answers_with_something_else_is_refused(pair: Pair, answer: bytes) -> None:
    with machine(pair) as at:
        at.broken = answer
        with pytest.raises(DatapathError) as caught:
            AmtDriver([AmtPort("p", client(at))])
        assert caught.value.subject == at.url


def test_a_port_that_cannot_be_closed_says_so_and_is_tried_until_it_is(pair: Pair) -> None:
    with machine(pair) as at, ExitStack() as stack:
        line = Line(pair, stack, ("a", "b"))
        gate = AmtDriver([AmtPort("p", client(at))])
        gate.open_until("p", time.monotonic_ns() + 60_000 * MS)
        line.await_one()
        at.broken = b"<a/>"
        with pytest.raises(DatapathError):
            gate.close("p", profile=True)
        at.broken = b""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            line.arrived()
            if line.send() not in line.arrived():
                break
        assert line.send() not in line.arrived()
        gate.remove()


def test_a_profile_that_no_policy_can_hold_is_refused(pins: Path) -> None:
    entries = [allowed(f"10.0.0.{number}/32", 6, 443) for number in range(27)]
    assert len(profile_filters(entries)) == 62
    with pytest.raises(UsageError):
        profile_filters([*entries, allowed("fd00::/8")])
