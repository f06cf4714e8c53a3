"""Answers that are lines of JSON, as they are found or as they come."""

from __future__ import annotations

from typing import Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class JsonLines(StreamingResponse):
    """One object a line."""

    media_type = "application/x-ndjson"


def lines_of(model: type[BaseModel]) -> dict[str, Any]:
    """How such an answer is documented."""
    return {"model": model, "description": "Lines, each one object of this schema; with `follow` without end."}
