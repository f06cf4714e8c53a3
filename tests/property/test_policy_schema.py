"""Whatever the parser takes, the schema for editors takes too."""

from __future__ import annotations

import jsonschema
from hypothesis import given, settings
from ruamel.yaml import YAML

from hostward.policy.schema import policy_schema
from tests.property.layouts import laid_out_files

VALIDATOR = jsonschema.Draft202012Validator(policy_schema())


@settings(max_examples=100, deadline=None)
@given(laid_out_files())
def test_a_policy_that_parses_is_valid(page: tuple[str, list[str]]) -> None:
    text, _ = page
    # Every scalar as text, as the parser takes it: `true` may be a name.
    for document in YAML(typ="base", pure=True).load_all(text):
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []
