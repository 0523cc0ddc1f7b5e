"""GET /settings: the settings in force, without secrets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, SecretStr

from api.dependencies import OPERATOR, ScopedRoute, SettingsDep
from settings import VERSION, without_password

router = APIRouter(route_class=ScopedRoute, tags=["health"], dependencies=OPERATOR)

MASK = "********"


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


@router.get("/settings")
async def settings_in_force(settings: SettingsDep) -> SettingsView:
    """Return the settings in force, with secrets masked. Where calls need a key, this one needs `admin`."""
    return SettingsView(
        version=VERSION,
        settings=[
            SettingView(
                name=name.upper(),
                value=_shown(getattr(settings, name)),
                is_default=getattr(settings, name) == field.default,
                secret="SecretStr" in str(field.annotation),
                description=field.description or "",
            )
            for name, field in type(settings).model_fields.items()
        ],
    )


def _shown(value: Any) -> str | int | float | bool | None:
    """Return a value in a form that may be shown."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else None
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_password(str(value)) or None
