"""The settings that a question may choose for itself."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from errors import InvalidRequest
from schemas import MAX_ANSWER_TOKENS, check_text
from settings import Settings

MAX_NAMES = 100
DocumentName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
DocumentNames = Annotated[list[DocumentName], Field(min_length=1, max_length=MAX_NAMES)]


def check_names(names: str | list[str] | None) -> str | list[str] | None:
    """Check the text of each name and return the names unchanged. Raises ValueError."""
    for name in [names] if isinstance(names, str) else names or []:
        check_text(name)
    return names


class QuestionSettings(BaseModel):
    """What to search, how strictly, and how the model writes. The server's settings apply where a field is left out."""

    name: Annotated[DocumentName | DocumentNames | None, AfterValidator(check_names)] = Field(
        None, description="Search only documents of this name, or of these names."
    )
    first_page: int | None = Field(None, ge=1, le=1_000_000, description="Search only from this page on.")
    last_page: int | None = Field(None, ge=1, le=1_000_000, description="Search only up to this page.")
    min_score: float | None = Field(None, ge=0, le=1, description="Leave out passages with a lower score.")
    model: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="Chat model, one of CHAT_MODEL and CHAT_MODELS."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="How freely the model writes.")
    max_tokens: int | None = Field(None, ge=1, le=MAX_ANSWER_TOKENS, description="Longest answer, in tokens.")
    cache: bool = Field(default=True, description="Use an earlier answer to the same question over the same documents.")

    @model_validator(mode="after")
    def _check_page_order(self) -> Self:
        if self.first_page is not None and self.last_page is not None and self.first_page > self.last_page:
            raise ValueError("first_page must not be greater than last_page")
        return self

    def query_fields(self, settings: Settings) -> dict[str, Any]:
        """Return these settings as fields of a Query. Raises InvalidRequest for a model that is not allowed."""
        allowed = settings.allowed_models
        if self.model is not None and self.model not in allowed:
            message = f"must be one of {', '.join(allowed)}" if allowed else "cannot be chosen: no model is configured"
            raise InvalidRequest([("model", message)])
        names = [self.name] if isinstance(self.name, str) else self.name
        options = ("first_page", "last_page", "min_score", "model", "temperature", "max_tokens", "cache")
        return {"names": names, **{option: getattr(self, option) for option in options}}
