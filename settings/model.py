"""Every setting of the program. The only module that reads the environment."""

from __future__ import annotations

import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from ssl import create_default_context
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from errors import SettingsError
from settings import addresses as urls

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_VALKEY_URL = "redis://127.0.0.1:6379"
LEXICAL_MODEL = "bm25"
LOCAL_MODEL = "local"
MIN_SECRET_BYTES = 32


class _FirstThatSaysSomething(EnvSettingsSource):
    """Reads a field of several names from the first of them that is set to something in this place.

    Under one key, whatever the name, so that a place that wins does so whichever names the two use. A field whose
    names are all empty is set to nothing, which hides what a later place has.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        names = [name for _, name, _ in self._extract_field_info(field, field_name)]
        found = [value for value in map(self.env_vars.get, names) if value is not None]
        return next((value for value in found if value.strip()), found[0] if found else None), field_name, False


class _EnvironmentFile(_FirstThatSaysSomething, DotEnvSettingsSource):
    """The same in `.env`."""


class Settings(BaseSettings):
    """The settings, immutable once read.

    A real environment variable wins over the `.env` file beside main.py; an empty value means the default,
    so `OPENAI_API_KEY= make run` runs offline whatever `.env` says.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_file=ROOT / ".env", extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    auth_required: bool = Field(
        default=False, description="Whether every call needs a key or a token. It does anyway once a key was made."
    )
    allow_anonymous: bool = Field(
        default=False, description="Whether HOST may be reachable from other machines without AUTH_REQUIRED or a key."
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Secret of HS256 tokens (JWT) to accept, of at least 32 bytes. Their `sub` is the user."
    )
    jwt_jwks_url: str | None = Field(
        None, description="Where the public keys are of RS256, PS256, ES256 or EdDSA tokens to accept."
    )
    jwt_audience: str | None = Field(None, description="What `aud` of a token must be.")
    jwt_issuer: str | None = Field(None, description="What `iss` of a token must be.")
    requests_per_minute: int | None = Field(
        None, ge=1, description="Requests a key may make in a minute. Empty: no limit."
    )
    max_queued_jobs: int | None = Field(
        None, ge=1, description="Jobs of a user that may wait at a time. Empty: no limit."
    )
    uploads_per_day: int | None = Field(None, ge=1, description="Files a user may upload in a day. Empty: no limit.")
    max_stored_mb: int | None = Field(
        None, ge=1, description="Uploads of a user that are kept, together, in MiB. Empty: no limit."
    )
    tokens_per_day: int | None = Field(
        None, ge=1, description="Tokens of the chat model that a user's answers may cost in a day. Empty: no limit."
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder of everything stored. A relative path starts at the folder of main.py.",
    )
    tls_ca_file: Path | None = Field(
        None,
        description="Certificates (PEM) that vouch for Valkey at rediss:// and Qdrant at https://, in the place of the "
        "system's. Empty: the system's.",
    )
    valkey_url: str | None = Field(
        None,
        validation_alias=AliasChoices("VALKEY_URL", "REDIS_URL", "RQ_REDIS_URL"),
        repr=False,
        description="Valkey or Redis server of the queues. Empty: an embedded one is started.",
    )
    qdrant_url: str | None = Field(None, description="Qdrant server. Empty: Qdrant's engine in the worker.")
    qdrant_api_key: SecretStr | None = Field(None, description="Key of the Qdrant server, if it wants one.")
    openai_api_key: SecretStr | None = Field(None, description="Key of the model provider. Empty: offline.")
    openai_base_url: str | None = Field(
        None, description="OpenAI-compatible server (Ollama, vLLM, ...). Empty, with a key: OpenAI itself."
    )
    chat_model: str = Field("gpt-4.1-mini", description="Model that writes the answers.")
    embedding_model: str = Field(
        "text-embedding-3-small",
        description=f"Model that embeds text; `{LEXICAL_MODEL}` for lexical search only, `{LOCAL_MODEL}` for one in "
        "the worker (see requirements-local.txt).",
    )
    chat_models: str = Field("", description="Further models that a question may ask for, separated by commas.")
    context_tokens: int = Field(
        3_000, ge=200, le=1_000_000, description="How much of the documents a model is given for one answer, in tokens."
    )
    rerank_url: str | None = Field(
        None, description="Endpoint that orders passages anew, as Cohere's and Jina's `/rerank`. Empty: none."
    )
    rerank_api_key: SecretStr | None = Field(None, description="Key of that endpoint, if it wants one.")
    rerank_model: str = Field("rerank-v3.5", description="Model that endpoint is asked for.")
    database_url: str | None = Field(
        None,
        repr=False,
        description="Database with the list of uploads: postgresql://... Empty: SQLite under DATA_DIR.",
    )
    file_store_url: str | None = Field(
        None, description="Where uploaded files are kept: s3://bucket/prefix. Empty: files/ under DATA_DIR."
    )
    aws_access_key_id: SecretStr | None = Field(
        None, repr=False, description="Key of the S3 store. Empty: the machine's own role."
    )
    aws_secret_access_key: SecretStr | None = Field(None, repr=False, description="Secret of that key.")
    aws_endpoint_url: str | None = Field(None, description="S3 server other than Amazon's, such as MinIO.")
    aws_region: str = Field("us-east-1", description="Region of the S3 bucket.")
    max_upload_mb: int = Field(100, ge=1, le=10_240, description="Largest body of POST /uploads, in MiB.")
    max_pages: int = Field(5_000, ge=1, description="Most pages a document may have.")
    max_text_mb: int = Field(50, ge=1, le=1_024, description="Most text a document may hold, in MiB of UTF-8.")
    extract_memory_mb: int = Field(
        512,
        ge=64,
        le=1_048_576,
        description="Memory that reading a file may take, in MiB, beyond what the reader itself needs.",
    )
    extract_seconds: int = Field(
        10,
        ge=1,
        le=86_400,
        description="CPU seconds a reader gets to begin with; it earns a tenth for each page, up to twice as much.",
    )
    ingestion_timeout_seconds: int = Field(
        3_600, ge=1, le=86_400, description="Longest the indexing of a file may run."
    )
    provider_requests_per_minute: int | None = Field(
        None, ge=1, description="Calls of the model provider that all workers make in a minute. Empty: no limit."
    )
    worker_processes: int = Field(1, ge=1, le=256, description="Worker processes that main.py starts.")
    worker_concurrency: int = Field(32, ge=1, le=1000, description="Jobs a worker process runs at once.")
    job_timeout_seconds: int = Field(180, ge=1, le=86_400, description="Longest a job may run.")
    # Ten years; from about 10^16 s on Valkey refuses it, when jobs are already under way.
    result_ttl_seconds: int = Field(86_400, ge=1, le=315_360_000, description="How long an ended job can be read.")
    webhook_allow_http: bool = Field(default=False, description="Whether webhooks may go to http:// URLs.")
    webhook_allow_private: bool = Field(
        default=False, description="Whether webhooks may go to this machine and private networks."
    )
    webhook_log_days: int = Field(7, ge=4, le=90, description="How long sent webhooks stay in the log.")
    cors_origins: str = Field(
        "", description="Web pages of other origins that may call the API: https://app.example, ... or *. Empty: none."
    )
    allowed_hosts: str = Field(
        "", description="Further names this server is called by while it listens on loopback, separated by commas."
    )
    trusted_proxies: str = Field(
        "", description="Addresses of reverse proxies whose X-Forwarded-For and -Proto are believed. Empty: none."
    )
    docs_enabled: bool = Field(default=True, description="Whether /docs and /openapi.json are served.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log shown.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for programs.")
    log_content: bool = Field(
        default=False, description="Whether logs may hold questions, answers and messages of unexpected errors."
    )
    audit_log: Path | None = Field(
        None, description="File that audit lines are also appended to. A relative path starts at the folder of main.py."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the program says, then the environment, then `.env`."""
        return init_settings, _FirstThatSaysSomething(settings_cls), _EnvironmentFile(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[info.field_name].default
        return value.strip() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        try:
            return (ROOT / value.expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):  # no such user's home, a link to itself, a NUL
            raise ValueError("must be a path") from None

    @field_validator("tls_ca_file")
    @classmethod
    def _certificates(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        value = cls._absolute(value)
        try:
            create_default_context(cafile=value)
        except OSError as error:  # SSLError is one
            raise ValueError(f"must name a readable PEM file of certificates ({error})") from None
        return value

    @field_validator("audit_log")
    @classmethod
    def _audit_absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else cls._absolute(value)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        origins = _listed(value)
        if "*" in origins and len(origins) > 1:
            raise ValueError("must be * alone, or origins separated by commas")
        for origin in origins:
            parts = urls.split(origin)
            if origin != "*" and (
                parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError("must be origins such as https://app.example, separated by commas, or *")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        if not all(re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host) for host in _listed(value)):
            raise ValueError("must be host names without scheme and port, separated by commas")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        urls.proxies(_listed(value))
        return value

    @field_validator("qdrant_api_key", "openai_api_key", "rerank_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value.get_secret_value()):
            raise ValueError("must be plain ASCII without line breaks")
        return value

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        return urls.host(value)

    @field_validator("valkey_url")
    @classmethod
    def _valkey_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else _with_ca(urls.valkey(value), info.data.get("tls_ca_file"))

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: str | None) -> str | None:
        return None if value is None else urls.database(value)

    @field_validator("file_store_url")
    @classmethod
    def _file_store_url(cls, value: str | None) -> str | None:
        return None if value is None else urls.bucket(value)

    @field_validator("qdrant_url", "openai_base_url", "aws_endpoint_url", "rerank_url", "jwt_jwks_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        return None if value is None else urls.http(value)

    @field_validator("jwt_secret")
    @classmethod
    def _long_secret(cls, value: SecretStr | None) -> SecretStr | None:
        # RFC 7518, 3.2: a key of HS256 is at least as long as its hash.
        if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes long")
        return value

    @model_validator(mode="after")
    def _auth_makes_sense(self) -> Self:
        if self.auth_required and self.allow_anonymous:
            raise ValueError("AUTH_REQUIRED and ALLOW_ANONYMOUS contradict each other: set one of them")
        if self.jwt_secret is not None and self.jwt_jwks_url is not None:
            raise ValueError("JWT_SECRET and JWT_JWKS_URL are two ways to check tokens: set one of them")
        if self.jwt_jwks_url is not None and not _safe(self.jwt_jwks_url):
            raise ValueError("JWT_JWKS_URL must start with https://, so that nobody changes what comes from it")
        if self.takes_tokens and not (self.jwt_audience and self.jwt_issuer):
            raise ValueError("JWT_AUDIENCE and JWT_ISSUER must be set, so that tokens made for others are refused")
        return self

    @model_validator(mode="after")
    def _no_conflict(self) -> Self:
        if self.worker_processes > 1 and self.qdrant_url is None:
            raise ValueError(
                f"WORKER_PROCESSES is {self.worker_processes}, but the embedded Qdrant belongs to one worker: "
                "set QDRANT_URL to a Qdrant server, or WORKER_PROCESSES=1"
            )
        return self

    @property
    def takes_tokens(self) -> bool:
        """True when callers may bring a JWT."""
        return self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can reach the API."""
        return is_loopback(self.host)

    @property
    def offline(self) -> bool:
        """True when no model provider is configured: answers are then quoted, not generated."""
        return self.openai_api_key is None and self.openai_base_url is None

    @property
    def dense_model(self) -> str | None:
        """Name of the embedding model, or None when search is lexical only."""
        if self.embedding_model == LOCAL_MODEL:
            return LOCAL_MODEL
        return None if self.offline or self.embedding_model == LEXICAL_MODEL else self.embedding_model

    @property
    def allowed_models(self) -> tuple[str, ...]:
        """Chat models that a question may ask for, CHAT_MODEL first; none when offline."""
        further = (name.strip() for name in self.chat_models.split(","))
        return () if self.offline else tuple(dict.fromkeys([self.chat_model, *filter(None, further)]))

    @property
    def origins(self) -> tuple[str, ...]:
        """CORS_ORIGINS, one by one."""
        return _listed(self.cors_origins)

    @property
    def hosts(self) -> tuple[str, ...]:
        """ALLOWED_HOSTS, one by one."""
        return _listed(self.allowed_hosts)

    @property
    def models_dir(self) -> Path:
        """Folder of what the model in the worker is built into."""
        return self.data_dir / "models"

    @property
    def qdrant_dir(self) -> Path:
        """Folder of the embedded Qdrant."""
        return self.data_dir / "qdrant"

    @property
    def valkey_dir(self) -> Path:
        """Folder of the embedded Valkey: append-only file, log, and the `url` of the running server."""
        return self.data_dir / "valkey"

    @property
    def files_dir(self) -> Path:
        """Folder of the uploaded files, when no FILE_STORE_URL is set."""
        return self.data_dir / "files"

    @property
    def queue_url(self) -> str:
        """URL of the queues: VALKEY_URL, else the embedded server that main.py has started, else the default."""
        if self.valkey_url is not None:
            return self.valkey_url
        try:
            return (self.valkey_dir / "url").read_text().strip() or DEFAULT_VALKEY_URL
        except OSError:
            return DEFAULT_VALKEY_URL


def _listed(value: str) -> tuple[str, ...]:
    return tuple(filter(None, (one.strip() for one in value.split(","))))


def load_settings(**values: Any) -> Settings:
    """Read the settings from the environment and `.env`; `values` replace what is read there.

    Raises:
        SettingsError: one sentence for each value that makes no sense, naming its variable.

    """
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{ROOT / '.env'} must be text in UTF-8") from None


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read on the first call."""
    return load_settings()


def without_password(url: str) -> str:
    """Return `url` with its password, if any, replaced by `***`, so that it can be printed."""
    url = re.sub(r"([?&]password=)[^&#]*", r"\1***", url)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))


def is_loopback(host: str) -> bool:
    """Tell whether a host name or an address leads to this machine and nowhere else."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _with_ca(url: str, ca_file: Path | None) -> str:
    """Return a rediss:// URL that names its certificates: redis-py reads them there, and so do RQ's own commands."""
    parts = urlsplit(url)
    if ca_file is None or parts.scheme != "rediss" or "ssl_ca_certs=" in parts.query:
        return url
    query = "&".join(filter(None, [parts.query, f"ssl_ca_certs={quote(str(ca_file))}"]))
    return urlunsplit(parts._replace(query=query))


def _sentence(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    message = message.removeprefix("Input should be ").removeprefix("must be ")
    verb = "" if message.startswith("must") else "must be "
    return f"{str(problem['loc'][0]).upper()} {verb}{message}"
