"""Settings as they may be shown: secrets and passwords are masked."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from settings.addresses import without_password

MASK = "********"


def masked(value: Any) -> str | int | float | bool | None:
    """Return the value of a setting in a form that may be shown; None where the setting is empty."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else None
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_password(str(value)) or None
