"""WS-Management (DSP0226) as Intel AMT speaks it: one envelope to a POST, HTTP digest, answers bounded and without DTDs."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

import httpx2
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hostward.errors import DatapathError

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
_ANONYMOUS = f"{_ADDRESSING}/role/anonymous"
_AMT = "http://intel.com/wbem/wscim/1/amt-schema/1/"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
_ANSWER_MAX = 1 << 18
_PULLS_MAX = 64
_ITEMS = 32


@dataclass(frozen=True, slots=True)
class Reference:
    """An endpoint reference (WS-Addressing): one instance, by its class and its keys."""

    kind: str
    keys: Mapping[str, str]


Fields = Mapping[str, "str | Reference | Sequence[str]"]


def class_uri(kind: str) -> str:
    """The resource of a class."""
    return (_CIM if kind.startswith("CIM_") else _AMT) + kind


class WsMan:
    """One machine's management engine. Times out after ``limit_s``; every failure is a DatapathError that names ``url``."""

    def __init__(self, url: str, user: str, password: str, tls: ssl.SSLContext | None, limit_s: float = 5.0) -> None:
        self.url = url
        self._client = httpx2.Client(
            auth=httpx2.DigestAuth(user, password), verify=tls or True, timeout=limit_s, trust_env=False
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def create(self, kind: str, fields: Fields) -> dict[str, str]:
        """Make an instance; returns the keys that the firmware gave it."""
        body = f"<p:{kind} xmlns:p={quoteattr(class_uri(kind))}>{_fields('p', fields)}</p:{kind}>"
        answer = self._ask(f"{_TRANSFER}/Create", kind, {}, body)
        return {each.get("Name", ""): each.text or "" for each in answer.iter(f"{{{_WSMAN}}}Selector")}

    def delete(self, kind: str, keys: Fields) -> None:
        """Take an instance away."""
        self._ask(f"{_TRANSFER}/Delete", kind, keys, "")

    def get(self, kind: str, keys: Fields) -> dict[str, str]:
        """An instance's plain fields."""
        return _plain(self._ask(f"{_TRANSFER}/Get", kind, keys, ""), kind)

    def put(self, kind: str, keys: Fields, fields: Fields) -> None:
        """Set an instance's fields."""
        body = f"<p:{kind} xmlns:p={quoteattr(class_uri(kind))}>{_fields('p', fields)}</p:{kind}>"
        self._ask(f"{_TRANSFER}/Put", kind, keys, body)

    def instances(self, kind: str) -> Iterator[dict[str, str]]:
        """The plain fields of every instance of a class; of a reference in one, its keys by their own names."""
        opened = self._ask(f"{_ENUMERATION}/Enumerate", kind, {}, f'<n:Enumerate xmlns:n="{_ENUMERATION}"/>')
        for _ in range(_PULLS_MAX):
            context = next((each.text or "" for each in opened.iter(f"{{{_ENUMERATION}}}EnumerationContext")), "")
            body = (
                f'<n:Pull xmlns:n="{_ENUMERATION}"><n:EnumerationContext>{escape(context)}</n:EnumerationContext>'
                f"<n:MaxElements>{_ITEMS}</n:MaxElements></n:Pull>"
            )
            opened = self._ask(f"{_ENUMERATION}/Pull", kind, {}, body)
            for item in opened.iter(f"{{{class_uri(kind)}}}{kind}"):
                yield _within(item)
            if opened.find(f".//{{{_ENUMERATION}}}EndOfSequence") is not None:
                return
        raise DatapathError(f"the list of {kind} has no end", subject=self.url)

    def invoke(self, kind: str, keys: Fields, method: str, arguments: Fields) -> dict[str, str]:
        """Call a method. Raises DatapathError too where its ReturnValue is not 0."""
        body = f"<p:{method}_INPUT xmlns:p={quoteattr(class_uri(kind))}>{_fields('p', arguments)}</p:{method}_INPUT>"
        told = _plain(self._ask(f"{class_uri(kind)}/{method}", kind, keys, body), f"{method}_OUTPUT")
        if told.get("ReturnValue") != "0":
            raise DatapathError(f"{kind}.{method} answered {told.get('ReturnValue', 'nothing')}", subject=self.url)
        return told

    def _ask(self, action: str, kind: str, keys: Fields, body: str) -> Element:
        selectors = "".join(
            f"<w:Selector Name={quoteattr(name)}>{_value(value)}</w:Selector>" for name, value in keys.items()
        )
        envelope = (
            f'<?xml version="1.0" encoding="UTF-8"?>'
            f'<s:Envelope xmlns:s="{_SOAP}" xmlns:a="{_ADDRESSING}" xmlns:w="{_WSMAN}">'
            f"<s:Header><a:Action>{escape(action)}</a:Action><a:To>/wsman</a:To>"
            f"<w:ResourceURI>{escape(class_uri(kind))}</w:ResourceURI><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
            f"<a:ReplyTo><a:Address>{_ANONYMOUS}</a:Address></a:ReplyTo>"
            f"{f'<w:SelectorSet>{selectors}</w:SelectorSet>' if selectors else ''}</s:Header>"
            f"<s:Body>{body}</s:Body></s:Envelope>"
        )
        what = f"{kind}: {action.rsplit('/', 1)[-1]}"
        try:
            status, data = self._post(envelope.encode())
        except httpx2.HTTPError as error:
            raise DatapathError(
                f"AMT does not answer {what}: {error or type(error).__name__}", subject=self.url
            ) from error
        if status == 401:
            raise DatapathError("AMT refuses the password", subject=self.url)
        try:
            answer: Element = fromstring(data, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError) as error:
            raise DatapathError(f"AMT answers {what} with {status} and no XML: {error}", subject=self.url) from error
        found = answer.find(f"{{{_SOAP}}}Body")
        if status != 200 or found is None or found.find(f"{{{_SOAP}}}Fault") is not None:
            reason = next((each.text or "" for each in answer.iter(f"{{{_SOAP}}}Text")), "")
            raise DatapathError(f"AMT refuses {what}: {reason or status}", subject=self.url)
        return found

    def _post(self, envelope: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8"}
        with self._client.stream("POST", f"{self.url}/wsman", content=envelope, headers=headers) as answer:
            data = b""
            for part in answer.iter_bytes():
                data += part
                if len(data) > _ANSWER_MAX:
                    raise DatapathError(f"an answer of AMT is above {_ANSWER_MAX} bytes", subject=self.url)
            return answer.status_code, data


def _value(value: str | Reference | Sequence[str]) -> str:
    if isinstance(value, Reference):
        keys = "".join(
            f"<w:Selector Name={quoteattr(key)}>{escape(text)}</w:Selector>" for key, text in value.keys.items()
        )
        return (
            f"<a:EndpointReference><a:Address>{_ANONYMOUS}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{escape(class_uri(value.kind))}</w:ResourceURI><w:SelectorSet>{keys}</w:SelectorSet>"
            f"</a:ReferenceParameters></a:EndpointReference>"
        )
    assert isinstance(value, str)
    return escape(value)


def _fields(prefix: str, fields: Fields) -> str:
    written = []
    for name, value in fields.items():
        for each in [value] if isinstance(value, str | Reference) else value:
            text = _value(each)
            if isinstance(each, Reference):  # a field of type reference is one, and holds none
                text = text.removeprefix("<a:EndpointReference>").removesuffix("</a:EndpointReference>")
            written.append(f"<{prefix}:{name}>{text}</{prefix}:{name}>")
    return "".join(written)


def _plain(body: Element, name: str) -> dict[str, str]:
    for each in body:
        if each.tag.rsplit("}", 1)[-1] == name:
            return {child.tag.rsplit("}", 1)[-1]: child.text or "" for child in each}
    return {}


def _within(item: Element) -> dict[str, str]:
    found = {child.tag.rsplit("}", 1)[-1]: child.text or "" for child in item}
    return found | {each.get("Name", ""): each.text or "" for each in item.iter(f"{{{_WSMAN}}}Selector")}
