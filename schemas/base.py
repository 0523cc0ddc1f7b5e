"""The base of the models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """The base of the models: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
