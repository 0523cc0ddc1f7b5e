"""docs/settings.md and .env.example, generated from `settings.Settings`: `python -m checks.settings_docs`.

`--check` writes nothing and returns 1 if a file differs from what would be generated.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
# The order of the documents. Each setting belongs to exactly one topic.
TOPICS: dict[str, tuple[str, ...]] = {
    "Address and data": ("host", "port", "api_processes", "data_dir"),
    "Models": (
        "openai_api_key",
        "openai_base_url",
        "chat_model",
        "chat_models",
        "embedding_model",
        "context_tokens",
        "first_token_timeout_seconds",
        "next_token_timeout_seconds",
        "provider_requests_per_minute",
        "rerank_url",
        "rerank_api_key",
        "rerank_model",
        "verify_model",
        "verify_timeout_seconds",
        "verify_tokens",
    ),
    "Services": (
        "valkey_url",
        "valkey_appendfsync",
        "qdrant_url",
        "qdrant_api_key",
        "qdrant_replication",
        "qdrant_write_consistency",
        "tls_ca_file",
        "database_url",
        "file_store_url",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_endpoint_url",
        "aws_region",
    ),
    "Callers": ("auth_required", "allow_anonymous", "jwt_secret", "jwt_jwks_url", "jwt_audience", "jwt_issuer"),
    "Quotas": ("requests_per_minute", "max_queued_jobs", "uploads_per_day", "max_stored_mb", "tokens_per_day"),
    "Documents": (
        "max_upload_mb",
        "max_pages",
        "max_text_mb",
        "extract_memory_mb",
        "extract_seconds",
        "page_cache_mb",
        "ocr_languages",
        "document_converter_url",
        "document_converter_api_key",
        "ingestion_timeout_seconds",
    ),
    "Workers and jobs": (
        "worker_processes",
        "worker_concurrency",
        "worker_queues",
        "heartbeat_file",
        "job_timeout_seconds",
        "result_ttl_seconds",
    ),
    "Webhooks": ("webhook_allow_http", "webhook_allow_private", "webhook_log_days"),
    "Browsers and proxies": (
        "cors_origins",
        "allowed_hosts",
        "trusted_proxies",
        "root_path",
        "public_url",
        "docs_enabled",
    ),
    "Metrics": ("metrics_port", "metrics_host"),
    "Traces": (
        "otel_exporter_otlp_endpoint",
        "otel_exporter_otlp_headers",
        "otel_service_name",
        "otel_resource_attributes",
        "otel_traces_sampler_arg",
    ),
    "Logs": ("log_level", "log_format", "log_content", "audit_log"),
}
UNITS = {"mb": "MiB", "seconds": "seconds", "days": "days", "tokens": "tokens"}
MARKDOWN_HEAD = """\
# Settings

<!-- Generated from settings/model.py by `make docs`. Do not edit. -->

The program reads settings from the environment and from `.env` beside main.py; the environment wins. An empty value
means the default. A value that makes no sense stops the start with a sentence that names the variable. `.env.example`
has the same list, ready to copy.
"""
EXAMPLE_HEAD = """\
# Generated from settings/model.py by `make docs`. Do not edit.
# Copy to .env beside main.py and change what you need. An environment variable wins over .env; an empty value means
# the default.
"""
EXAMPLE_TAIL = """
# docker compose reads VALKEY_PASSWORD and a few more variables that the program does not: see docs/deployment.md.
"""


def variable_names(name: str, field: FieldInfo) -> list[str]:
    """Return the names of the environment variables of a setting, the preferred one first."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [name.upper()]


def default_text(field: FieldInfo) -> str:
    """Return the default as it is written in `.env`; "" for none."""
    return "" if field.default is None else str(field.default)


def allowed_values(name: str, field: FieldInfo) -> str:
    """Return the kind, the range and the unit of a setting's values, such as "1 to 90 days"."""
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if kind is bool:
        return "`True`, `False`"
    if kind is int:
        return _range(field, UNITS.get(name.rpartition("_")[2], ""))
    return {SecretStr: "secret", Path: "path"}.get(kind, "URL" if name.endswith("_url") else "text")


def markdown() -> str:
    """Return the text of docs/settings.md."""
    parts = [MARKDOWN_HEAD]
    for topic, fields in _topics():
        parts.append(f"\n## {topic}\n\n| variable | default | values | meaning |\n|---|---|---|---|\n")
        parts += [_row(name, field) for name, field in fields]
    return "".join(parts)


def example() -> str:
    """Return the text of .env.example."""
    parts = [EXAMPLE_HEAD]
    for topic, fields in _topics():
        parts.append(f"\n# ---- {topic} ----\n")
        parts += [_assignment(name, field) for name, field in fields]
    return "".join([*parts, EXAMPLE_TAIL])


def check(root: Path) -> list[str]:
    """Return a sentence for each generated file that differs from the settings."""
    return [f"{name} is not up to date: run `make docs`" for name, text in _files() if _read(root / name) != text]


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them with `--check`. Return 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m checks.settings_docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; return 1 if a file is not up to date")
    if parser.parse_args(arguments).check:
        problems = check(ROOT)
        print("\n".join(problems) if problems else "settings: docs/settings.md and .env.example are up to date")
        return 1 if problems else 0
    for name, text in _files():
        (ROOT / name).write_text(text)
        print(f"wrote {name}")
    return 0


def _files() -> list[tuple[str, str]]:
    return [("docs/settings.md", markdown()), (".env.example", example())]


def _topics() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """Yield each topic and its settings. Raises ValueError unless TOPICS lists every setting once."""
    listed = [name for names in TOPICS.values() for name in names]
    if sorted(listed) != sorted(Settings.model_fields):
        raise ValueError(f"TOPICS must list every setting once: {sorted({*listed} ^ {*Settings.model_fields})}")
    for topic, names in TOPICS.items():
        yield topic, [(name, Settings.model_fields[name]) for name in names]


def _row(name: str, field: FieldInfo) -> str:
    first, *others = variable_names(name, field)
    also = f" Also read from {' and '.join(f'`{other}`' for other in others)}." if others else ""
    default = f"`{default_text(field)}`" if default_text(field) else ""
    meaning = f"{field.description}{also}".replace("|", "\\|")
    return f"| `{first}` | {default} | {allowed_values(name, field)} | {meaning} |\n"


def _assignment(name: str, field: FieldInfo) -> str:
    first, *others = variable_names(name, field)
    also = f" Also read from {' and '.join(others)}." if others else ""
    values = allowed_values(name, field).replace("`", "")
    text = f"{field.description}{also}" + ("" if values in {"text", "URL", "path", "secret"} else f" ({values})")
    lines = textwrap.wrap(text, 117, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines) + f"{first}={default_text(field)}\n"


def _range(field: FieldInfo, unit: str) -> str:
    low = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    high = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    if low is not None and high is not None:
        numbers = f"{low} to {high}"
    else:
        numbers = "number" if low is None else f"{low} or more"
    return f"{numbers} {unit}".rstrip()


def _without_none(annotation: Any) -> Any:
    """Return the type in an annotation such as `int | None` or `Annotated[str, ...] | None`."""
    if get_origin(annotation) is Literal:
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind  # Annotated[str, AfterValidator(...)]


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
