"""Every setting of the program, read once; the only package that reads or changes the environment."""

from settings.addresses import check_root_path, is_loopback, without_password
from settings.loading import get_settings, load_settings
from settings.model import DEFAULT_VALKEY_URL, LEXICAL_MODEL, LOCAL_MODEL, Settings
from settings.text_encoding import use_utf8
from settings.values import ROOT
from settings.version import VERSION

__all__ = [
    "DEFAULT_VALKEY_URL",
    "LEXICAL_MODEL",
    "LOCAL_MODEL",
    "ROOT",
    "VERSION",
    "Settings",
    "check_root_path",
    "get_settings",
    "is_loopback",
    "load_settings",
    "use_utf8",
    "without_password",
]
