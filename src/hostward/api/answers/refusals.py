"""The body of every error, and which errors an operation documents."""

from __future__ import annotations

from pydantic import Field

from hostward.api.answers.base import Answer


class Mistake(Answer):
    """One mistake in a policy file."""

    file: str
    line: int = Field(description="Counted from 1.")
    column: int = Field(description="Counted from 1.")
    message: str
    hint: str = Field(description="What would be right, the nearest valid name for one; may be empty.")


class Refusal(Answer):
    """The body of every error."""

    what: str = Field(description="What happened.")
    subject: str = Field(description="To which object; may be empty.")
    hint: str = Field(description="What to do next; may be empty.")
    problems: list[Mistake] = Field(description="The mistakes of policy files, where those were refused.")


_DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "No token, or one that is wrong, expired or revoked.",
    403: "Whoever asks may not do this.",
    404: "There is no such object that the asker may see.",
    409: "The object is not in the state that the request assumed, or the store cannot be read or written.",
    422: "The policy was refused.",
}
# Every operation can meet these: they lie before it.
_ALWAYS = (400, 401, 403)


def refusals(*statuses: int) -> dict[int | str, dict[str, object]]:
    """What an operation's ``responses`` say of errors: ``statuses``, and those that every operation can meet."""
    return {
        status: {"model": Refusal, "description": _DESCRIPTIONS[status]} for status in sorted({*_ALWAYS, *statuses})
    }
