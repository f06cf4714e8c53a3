"""The API's OpenAPI document: FastAPI's own, without what it says of itself and Hostward does otherwise."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from hostward.api.answers.refusals import Refusal

_REFUSAL = f"#/components/schemas/{Refusal.__name__}"
# FastAPI's body for a malformed request; here that is a 400 with the body of every error.
_NOT_OURS = ("HTTPValidationError", "ValidationError")


class DocumentedApi(FastAPI):
    """An application whose document names the errors that its operations really answer."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        for item in document["paths"].values():
            for operation in item.values():
                _correct_errors(operation["responses"])
                _correct_lines(operation["responses"]["200"])
        for name in _NOT_OURS:
            document["components"]["schemas"].pop(name, None)
        _name_doors(document)
        return document


def _correct_errors(responses: dict[str, Any]) -> None:
    for status, response in list(responses.items()):
        if status.startswith("2"):
            continue
        # FastAPI takes the media type of the operation's success for all of them.
        (content,) = response["content"].values()
        response["content"] = {"application/json": content}
        if content["schema"].get("$ref") != _REFUSAL:
            del responses[status]


def _correct_lines(response: dict[str, Any]) -> None:
    for content in response["content"].values():
        if "$ref" in content["schema"]:
            # Beside a model FastAPI says `string` of whatever is not JSON as a whole.
            content["schema"].pop("type", None)


def _name_doors(document: dict[str, Any]) -> None:
    """Say how a caller is known. On the Unix socket it needs nothing, beyond it a bearer token."""
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token, or a JWT of the configured issuer. On the Unix socket nothing is needed.",
        }
    }
    document["security"] = [{"token": []}]
