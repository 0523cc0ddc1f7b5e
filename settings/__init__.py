"""Every setting of the program, read once; the only package that reads the environment."""

from settings.model import (
    DEFAULT_VALKEY_URL,
    LEXICAL_MODEL,
    LOCAL_MODEL,
    ROOT,
    Settings,
    get_settings,
    is_loopback,
    load_settings,
    without_password,
)

__all__ = [
    "DEFAULT_VALKEY_URL",
    "LEXICAL_MODEL",
    "LOCAL_MODEL",
    "ROOT",
    "Settings",
    "get_settings",
    "is_loopback",
    "load_settings",
    "without_password",
]
