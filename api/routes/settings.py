"""GET /settings: the settings in force, without secrets. GET /settings/suggested: those that a model needs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import OPERATOR, ScopedRoute, SettingsDep
from client.llm import ollama
from settings import VERSION
from settings.masking import masked

router = APIRouter(route_class=ScopedRoute, tags=["health"], dependencies=OPERATOR)


class SettingView(BaseModel):
    """A setting as it is in force. docs/settings.md lists them all."""

    name: str = Field(description="The environment variable.")
    value: str | int | float | bool | None = Field(description="Null where empty; a set secret is masked.")
    is_default: bool
    secret: bool
    description: str


class SettingsView(BaseModel):
    """The settings of the API process that answers. Workers read theirs when they start."""

    version: str
    settings: list[SettingView]


class SuggestedSettings(BaseModel):
    """Settings by which a model provider of this machine would write the answers."""

    provider: Literal["ollama"] | None = Field(
        description="The provider that was found; null if none was, or if the settings name one already."
    )
    models: list[str] = Field(description="The models that the provider has on this machine.")
    lines: list[str] = Field(description="Lines for the file `.env`; the service reads them when it starts.")


@router.get("/settings")
async def settings_in_force(settings: SettingsDep) -> SettingsView:
    """Return the settings in force, with secrets masked. Where calls need a key, this one needs `admin`."""
    return SettingsView(
        version=VERSION,
        settings=[
            SettingView(
                name=name.upper(),
                value=masked(getattr(settings, name)),
                is_default=getattr(settings, name) == field.default,
                secret="SecretStr" in str(field.annotation),
                description=field.description or "",
            )
            for name, field in type(settings).model_fields.items()
        ],
    )


@router.get("/settings/suggested")
async def suggested_settings(settings: SettingsDep) -> SuggestedSettings:
    """Look for an Ollama at 127.0.0.1:11434, unless a model is set. Where calls need a key, it is one of an admin."""
    found = await ollama.find() if settings.offline else None
    if found is None:
        return SuggestedSettings(provider=None, models=[], lines=[])
    return SuggestedSettings(provider="ollama", models=found.models, lines=found.settings)
