"""Reading the settings of a process, with the errors in sentences."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import ValidationError

from errors import SettingsError
from settings.environment import prepare_environment
from settings.model import Settings
from settings.values import ROOT


def load_settings(**values: Any) -> Settings:
    """Read the settings from the environment and `.env`; `values` win over both.

    Then variables that only libraries read and that would send data elsewhere are removed from the environment.

    Raises:
        SettingsError: one sentence for each invalid value, which names its variable.

    """
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{ROOT / '.env'} must be text in UTF-8") from None
    prepare_environment(settings)
    return settings


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read on the first call."""
    return load_settings()


def _sentence(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    message = message.removeprefix("Input should be ").removeprefix("must be ")
    verb = "" if message.startswith("must") else "must be "
    return f"{str(problem['loc'][0]).upper()} {verb}{message}"
