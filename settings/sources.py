"""Where settings are read from: the environment, then the `.env` file."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource


class EnvironmentSource(EnvSettingsSource):
    """Environment variables; a field with several names takes the first name that has a value.

    The value is returned under the name of the field. So this source wins over the next source even where the two use
    different names for the same field. A field whose variables are all empty is returned as empty, which hides the
    value of the next source.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        names = [name for _, name, _ in self._extract_field_info(field, field_name)]
        values = [value for value in map(self.env_vars.get, names) if value is not None]
        return next((value for value in values if value.strip()), values[0] if values else None), field_name, False


class EnvFileSource(EnvironmentSource, DotEnvSettingsSource):
    """The `.env` file, read by the same rules."""
