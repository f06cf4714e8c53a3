"""What every answer has in common. Owns no shape of any one operation."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, WithJsonSchema

# Text, not datetime: answers carry times as they were written, and pydantic would write some of them anew.
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Answer(BaseModel):
    """An answer, or a part of one. A field that the document does not name cannot leave the controller."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class Done(Answer):
    """It was done, and there is nothing more to say."""
