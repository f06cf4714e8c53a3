"""The JSON Schema of policy files (2020-12), for editors: keys, types and help, and the shape of each line.

It is made from the tables that the parser reads by. It never refuses what the parser takes, apart from names that YAML
takes for something else than text unless they are quoted (``tenant: true``); the parser refuses more: what a schema cannot
know, such as a group that is not defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostward.policy.document import PLATFORM, Overload
from hostward.policy.grammar import KEYWORDS, OPTIONS
from hostward.policy.guards import KIND_WORDS, RESPONSE_WORDS
from hostward.policy.keys import MAX_SHARE, NETWORK_KEYS, PLATFORM_KEYS, TENANT_KEYS, Holds, Key
from hostward.policy.notation import expression_grammar, lines_grammar, pattern
from hostward.policy.sampling import FORM

_Schema = dict[str, Any]


def policy_schema() -> _Schema:
    """The schema of one document: a tenant's, or the platform's."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hostward:policy",
        "title": "Hostward policy",
        "description": "One tenant's policy, or the platform's.",
        "type": "object",
        "if": {"required": ["tenant"]},
        "then": {"$ref": "#/$defs/tenant-document"},
        "else": {"$ref": "#/$defs/platform-document"},
        "$defs": {
            "tenant-document": _object(TENANT_KEYS, required=("tenant",)),
            "platform-document": {
                "type": "object",
                "description": "begins with `tenant: NAME` or `platform:`",
                "properties": {PLATFORM: {"$ref": "#/$defs/platform"}},
                "required": [PLATFORM],
                "additionalProperties": False,
            },
            "platform": _object(PLATFORM_KEYS),
            **_values(),
        },
    }


def _object(keys: Mapping[str, Key], required: tuple[str, ...] = ()) -> _Schema:
    described: _Schema = {
        "type": "object",
        "properties": {
            name: {"description": key.meaning, **_ref(_REFERENCES[key.holds])} for name, key in keys.items()
        },
        "additionalProperties": False,
    }
    return {**described, "required": list(required)} if required else described


_REFERENCES = {
    Holds.NAME: "name",
    Holds.MODE: "mode",
    Holds.GROUPS: "groups",
    Holds.SERVICES: "services",
    Holds.NAMES: "names",
    Holds.RULES: "rules",
    Holds.ASSERTIONS: "assertions",
    Holds.NETWORKS: "networks",
    Holds.PREFIXES: "prefixes",
    Holds.SHARES: "shares",
    Holds.GUARD: "guard",
    Holds.OVERLOAD: "overload",
    Holds.SAMPLING: "sampling",
}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/$defs/{name}"}


def _values() -> _Schema:
    """What keys hold."""
    lines, expressions = lines_grammar(), expression_grammar()
    options = " ".join(f"[{option.form}]" for option in OPTIONS.values())
    return {
        "name": {
            "type": "string",
            "description": "letters, digits, - and _, beginning with a letter, at most 63, no word of the language",
            "pattern": f"^(?!(?:{'|'.join(sorted(KEYWORDS))})$)[A-Za-z][A-Za-z0-9_-]{{0,62}}$",
        },
        "names": _one_or_many("name"),
        "mode": {"enum": ["enforce", "audit"]},
        "overload": {"enum": [overload.value for overload in Overload]},
        "prefix": {
            "type": "string",
            "description": "a prefix or an address, IPv4 or IPv6",
            "pattern": "^[0-9A-Fa-f:.]+(/[0-9.]+)?(%[^,]*)?$",
        },
        "prefixes": _one_or_many("prefix"),
        "groups": _mapping({"anyOf": [_ref("expression"), {"type": "array", "items": _ref("prefix")}]}),
        "expression": {
            "type": "string",
            "description": "who is in the group, by labels: `role=web and env in (prod, test) and not has legacy`",
            "pattern": pattern("expression", expressions),
        },
        "services": _mapping(_one_or_many("ports")),
        "ports": {
            "type": "string",
            "description": "a port: `tcp/443`, `udp/8000-8099`, `icmp/echo-request`, `proto/47`",
            "pattern": pattern("ports", lines),
        },
        "rules": {
            "type": "array",
            "items": {"anyOf": [_ref("rule"), {**_mapping(_ref("rule")), "minProperties": 1, "maxProperties": 1}]},
        },
        "rule": {
            "type": "string",
            "description": f"allow|deny PEERS [except PEERS] to PEERS [except PEERS] [on PORTS] {options}",
            "pattern": pattern("rule", lines),
        },
        "assertions": _one_or_many("assertion"),
        "assertion": {
            "type": "string",
            "description": "never|always PEERS [except PEERS] to PEERS [except PEERS] [on PORTS]",
            "pattern": pattern("assertion", lines),
        },
        "shares": _mapping({"type": "integer", "minimum": 1, "maximum": MAX_SHARE}),
        "guard": {
            "type": "object",
            "properties": {kind: _ref("response") for kind in KIND_WORDS},
            "additionalProperties": False,
        },
        "response": {
            "type": "string",
            "description": "`alert`, or with a threshold: `throttle above 200`",
            "pattern": f"^({'|'.join(RESPONSE_WORDS)})( above [1-9][0-9]{{0,5}})?$",
        },
        "sampling": {
            "anyOf": [_ref("rate"), {"type": "object", "additionalProperties": _ref("rate")}],
        },
        "rate": {
            "type": "string",
            "description": "one packet in so many: `1/1000`",
            "pattern": f"^{FORM}$",
        },
        "networks": _mapping(_object(NETWORK_KEYS, required=("pools",))),
    }


def _one_or_many(name: str) -> _Schema:
    return {"anyOf": [_ref(name), {"type": "array", "items": _ref(name)}]}


def _mapping(values: _Schema) -> _Schema:
    return {"type": "object", "propertyNames": _ref("name"), "additionalProperties": values}
