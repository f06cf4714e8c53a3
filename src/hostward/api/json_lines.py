"""Answers that are lines of JSON, as they are found or as they come."""

from __future__ import annotations

from types import UnionType
from typing import Any

from fastapi.responses import StreamingResponse

from hostward.api.answers.base import Answer


class JsonLines(StreamingResponse):
    """One object a line."""

    media_type = "application/x-ndjson"


def lines_of(model: type[Answer] | UnionType) -> dict[str, Any]:
    """How such an answer is documented; of a union each line is one of its members."""
    return {"model": model, "description": "Lines, each one object of this schema; with `follow` without end."}
