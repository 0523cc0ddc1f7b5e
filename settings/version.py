"""The program's version, in one place: pyproject.toml, the OpenAPI document and CHANGELOG.md follow it."""

VERSION = "0.2.0.dev0"
