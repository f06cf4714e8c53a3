"""The published schema is the generated one, takes every policy that parses, and refuses mistakes of structure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from hostward.errors import PolicyError
from hostward.policy import parse_sources
from hostward.policy.schema import policy_schema

ROOT = Path(__file__).parents[3]
VALIDATOR = jsonschema.Draft202012Validator(policy_schema())


def errors(text: str) -> list[str]:
    documents: list[Any] = list(YAML(typ="safe", pure=True).load_all(text))
    return [error.message for document in documents for error in VALIDATOR.iter_errors(document)]


def written_policies() -> dict[str, str]:
    """Every policy in the examples and the documents, by where it stands."""
    found = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in (ROOT / "examples").rglob("*.yaml")
        if path.parent.name != "lab"
    }
    for page in (ROOT / "docs").rglob("*.md"):
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            if re.match(r"(#.*\n)*(tenant|platform):", block):
                found[f"{page.relative_to(ROOT)}#{number}"] = block
    assert len(found) >= 4
    return found


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(policy_schema())


def test_the_published_schema_is_the_generated_one() -> None:
    published = json.loads((ROOT / "docs/reference/policy.schema.json").read_text())
    again = "run `hostward policy schema > docs/reference/policy.schema.json`"
    assert published == policy_schema(), again


@pytest.mark.parametrize(("where", "text"), written_policies().items())
def test_every_written_policy_is_valid(where: str, text: str) -> None:
    parse_sources([(where, text.encode())])
    assert errors(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "tenant: acme\nruels: []\n",
        "tenant: acme\nplatform: {}\n",
        "tenat: acme\n",
        "tenant:\n",
        "tenant: []\n",
        "tenant: allow\n",
        "tenant: 1a\n",
        "tenant: acme\nmode: maybe\n",
        "tenant: acme\nmode:\n",
        "tenant: acme\nrules:\n",
        "tenant: acme\nrules: allow any to any\n",
        "tenant: acme\nrules: [[allow any to any]]\n",
        "tenant: acme\nrules: [null]\n",
        "tenant: acme\nrules: [{a: allow any to any, b: deny any to any}]\n",
        "tenant: acme\nrules: [{}]\n",
        "tenant: acme\nrules: [{'a b': allow any to any}]\n",
        "tenant: acme\nrules: [{a: null}]\n",
        "tenant: acme\nrules: [never any to any]\n",
        "tenant: acme\nrules: [allow any -> any]\n",
        "tenant: acme\nrules: [allow any to any on tcp:443]\n",
        "tenant: acme\nrules: [allow any to any on]\n",
        "tenant: acme\nassertions: [allow any to any]\n",
        "tenant: acme\ngroups: {a: {b: c}}\n",
        "tenant: acme\ngroups: {a: role}\n",
        "tenant: acme\ngroups: {a: [office]}\n",
        "tenant: acme\ngroups: [a]\n",
        "tenant: acme\ngroups: {a: 5}\n",
        "tenant: acme\nservices: {a: 80}\n",
        "tenant: acme\nservices: {a: {tcp: 80}}\n",
        "tenant: acme\nexports: {a: b}\n",
        "platform:\n",
        "platform: []\n",
        "platform: {tenant: a}\n",
        "platform: {exports: [a]}\n",
        "platform: {networks: {a: [10.0.0.0/8]}}\n",
        "platform: {networks: {a: {}}}\n",
        "platform: {networks: {a: {pools: [10.0.0.0/8], more: 1}}}\n",
        "platform: {networks: {a: {dhcp: [10.0.0.7]}}}\n",
        "platform: {networks: {a: {pools: [10.0.0.0/8], dhcp: {b: c}}}}\n",
        "platform: {}\nrules: []\n",
    ],
)
def test_a_mistake_of_structure_is_refused_by_both(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_sources([("a.yaml", text.encode())])
    assert errors(text)
