"""The simulated engine's door: WS-Management over HTTP with digest authentication (RFC 7616, MD5, qop=auth)."""

from __future__ import annotations

import hashlib
import re
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from defusedxml.ElementTree import fromstring

from tests.amt.firmware import (
    ASSOCIATIONS,
    FILTERS,
    POLICY,
    WATCHDOG,
    WATCHDOGS_MAX,
    Fields,
    Firmware,
    RefusedError,
    Watch,
)
from tests.amt.packets import Packets

USER, PASSWORD = "admin", "P@ssw0rd&<x>"
REALM = "Digest:A3829B3827DE4D33D4449B366831FD01"
S = "http://www.w3.org/2003/05/soap-envelope"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
N = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_FIELD = re.compile(r'(\w+)="?([^",]+)"?')


class Engine(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, firmware: Firmware) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.firmware = firmware
        self.nonce = secrets.token_hex(16)
        self.requests: list[str] = []  # the actions, as they came
        self.scheme = "http"
        self.broken = b""  # answered instead of everything, if not empty

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def secure(self, chain: Path) -> None:
        """From now on by TLS; the handshake is each connection's own thread's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def engine(device: str, **switches: object) -> Iterator[Engine]:
    """A whole management engine in front of a device."""
    firmware = Firmware(Packets(device), **switches)  # type: ignore[arg-type]
    server = Engine(firmware)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        firmware.stop()


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/wsman" or not self._known():
            challenge = f'Digest realm="{REALM}", nonce="{self.server.nonce}", stale="false", qop="auth"'
            self._answer(401, b"", ("WWW-Authenticate", challenge))
            return
        if self.server.broken:
            self._answer(200, self.server.broken)
            return
        envelope = fromstring(data, forbid_dtd=True)
        try:
            with self.server.firmware.lock:
                body = self._carry_out(envelope)
                self.server.firmware.settle()
        except RefusedError as refused:
            reason = f"<s:Fault><s:Reason><s:Text>{escape(str(refused))}</s:Text></s:Reason></s:Fault>"
            self._answer(500, _envelope(reason))
        else:
            self._answer(200, _envelope(body))

    def _known(self) -> bool:
        given = dict(_FIELD.findall(self.headers.get("Authorization", "")))
        one = _md5(f"{USER}:{REALM}:{PASSWORD}")
        two = _md5(f"POST:{given.get('uri', '')}")
        wanted = _md5(":".join([one, self.server.nonce, given.get("nc", ""), given.get("cnonce", ""), "auth", two]))
        return given.get("nonce") == self.server.nonce and secrets.compare_digest(given.get("response", ""), wanted)

    def _answer(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _carry_out(self, envelope: Element) -> str:
        firmware = self.server.firmware
        header, body = envelope.find(f"{{{S}}}Header"), envelope.find(f"{{{S}}}Body")
        assert header is not None
        assert body is not None
        uri = header.findtext(f"{{{W}}}ResourceURI", "")
        kind, action = uri.rsplit("/", 1)[-1], header.findtext(f"{{{A}}}Action", "").rsplit("/", 1)[-1]
        keys = {each.get("Name", ""): each for each in header.findall(f"{{{W}}}SelectorSet/{{{W}}}Selector")}
        key = _key(keys)
        self.server.requests.append(f"{kind} {action}")
        if action == "Enumerate":
            context = "<n:EnumerationContext>1</n:EnumerationContext>"
            return f'<n:EnumerateResponse xmlns:n="{N}">{context}</n:EnumerateResponse>'
        if action == "Pull":
            items = "".join(_instance(kind, uri, fields) for fields in _instances(firmware, kind))
            return f'<n:PullResponse xmlns:n="{N}"><n:Items>{items}</n:Items><n:EndOfSequence/></n:PullResponse>'
        given = body[0] if len(body) else None
        if action == "Create" and given is not None:
            made = _create(firmware, kind, given)
            return (
                f'<r:ResourceCreated xmlns:r="x"><w:Selector Name="InstanceID">{made}</w:Selector></r:ResourceCreated>'
            )
        if action == "Delete":
            firmware.delete(kind, key)
            return ""
        if action == "Put" and given is not None and kind == WATCHDOG and key in firmware.watches:
            firmware.watches[key].fields |= _plain(given)
            return ""
        if action == "Get":
            found = [fields for fields in _instances(firmware, kind) if key in fields.values()]
            if not found:
                raise RefusedError("no such instance")
            return _instance(kind, uri, found[0])
        told = {"ReturnValue": "0"} | firmware.call(kind, key, action, _plain(given) if given is not None else {})
        return f'<p:{action}_OUTPUT xmlns:p="{uri}">{_written(told)}</p:{action}_OUTPUT>'


def _create(firmware: Firmware, kind: str, given: Element) -> str:
    fields = _plain(given)
    if kind == POLICY:
        handles = [child.text or "" for child in given if child.tag.endswith("}FilterCreationHandles")]
        return firmware.create_policy(fields, handles)
    if kind in FILTERS:
        return firmware.create_filter(kind, fields)
    if kind in ASSOCIATIONS:
        firmware.bind(kind, _key({each.get("Name", ""): each for each in given.iter(f"{{{W}}}Selector")}))
        return ""
    if kind == WATCHDOG:
        if fields["DeviceID"] in firmware.watches or len(firmware.watches) >= WATCHDOGS_MAX:
            raise RefusedError("no more watchdogs of that kind")
        firmware.watches[fields["DeviceID"]] = Watch(fields)
        return fields["DeviceID"]
    raise RefusedError("no such class")


def _instances(firmware: Firmware, kind: str) -> list[Fields]:
    if kind == POLICY:
        return [policy.fields for policy in firmware.policies.values()]
    if kind in FILTERS:
        return [fields for of, fields in firmware.filters.values() if of == kind]
    if kind in ASSOCIATIONS:
        return [
            {"DeviceID": "Intel(r) AMT Ethernet Port 0", "InstanceID": key}
            for of, key in firmware.bound.items()
            if of == kind
        ]
    return [watch.fields for watch in firmware.watches.values()]


def _key(selectors: dict[str, Element]) -> str:
    """What names an instance: of an association, the policy's."""
    found = selectors.get("Dependent", selectors.get("InstanceID", selectors.get("DeviceID")))
    if found is None:
        return ""
    within = found.find(f".//{{{W}}}Selector")
    return (within if within is not None else found).text or ""


def _instance(kind: str, uri: str, fields: Fields) -> str:
    if kind in ASSOCIATIONS:
        ends = (("Antecedent", "DeviceID"), ("Dependent", "InstanceID"))
        inside = "".join(
            f"<p:{end}><a:ReferenceParameters><w:SelectorSet>"
            f'<w:Selector Name="{key}">{escape(fields[key])}</w:Selector></w:SelectorSet></a:ReferenceParameters></p:{end}>'
            for end, key in ends
        )
        return f'<p:{kind} xmlns:p="{uri}">{inside}</p:{kind}>'
    return f'<p:{kind} xmlns:p="{uri}">{_written(fields)}</p:{kind}>'


def _written(fields: Fields) -> str:
    return "".join(f"<p:{name}>{escape(text)}</p:{name}>" for name, text in fields.items())


def _plain(element: Element) -> Fields:
    return {child.tag.rsplit("}", 1)[-1]: child.text or "" for child in element}


def _envelope(body: str) -> bytes:
    return f'<s:Envelope xmlns:s="{S}" xmlns:w="{W}" xmlns:a="{A}"><s:Header/><s:Body>{body}</s:Body></s:Envelope>'.encode()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
