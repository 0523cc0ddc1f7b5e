"""The settings model: every field with its environment variable, default, bounds and description."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from settings.addresses import (
    check_database_url,
    check_http_url,
    check_listen_host,
    check_s3_url,
    check_valkey_url,
    is_https_or_loopback,
    is_loopback,
    split_list,
)
from settings.edge import EdgeSettings
from settings.metrics import MetricsSettings
from settings.qdrant import QdrantSettings
from settings.sources import EnvFileSource, EnvironmentSource
from settings.telemetry import TelemetrySettings
from settings.values import ROOT, check_ca_file, check_header_value, check_signing_secret, make_absolute

DEFAULT_VALKEY_URL = "redis://127.0.0.1:6379"
LEXICAL_MODEL = "bm25"
LOCAL_MODEL = "local"


class Settings(EdgeSettings, MetricsSettings, QdrantSettings, TelemetrySettings):
    """The settings of a process, immutable once read.

    An environment variable wins over the `.env` file beside main.py. An empty value means the default, so
    `OPENAI_API_KEY= make run` uses no key even if `.env` has one.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_file=ROOT / ".env", extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    host: Annotated[str, AfterValidator(check_listen_host)] = Field(
        "127.0.0.1",
        description="Address or host name the API listens on. The default is reachable from this machine only.",
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port the API listens on. 0: any free port.")
    auth_required: bool = Field(
        default=False,
        description="True: every call needs an API key or a token. False: calls need one as soon as a key exists.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="True: the API starts on a HOST that other machines can reach even if calls need no key. "
        "False: the start is refused.",
    )
    jwt_secret: Annotated[SecretStr, AfterValidator(check_signing_secret)] | None = Field(
        None,
        description="Secret that signs accepted HS256 tokens (JWT), at least 32 bytes. The token's `sub` is the user. "
        "Empty: no HS256 tokens.",
    )
    jwt_jwks_url: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None,
        description="URL of the public keys (JWKS) that verify accepted RS256, PS256, ES256 or EdDSA tokens. "
        "Empty: no such tokens.",
    )
    jwt_audience: str | None = Field(
        None, description="Required `aud` of tokens. Empty: only without JWT_SECRET and JWT_JWKS_URL."
    )
    jwt_issuer: str | None = Field(
        None, description="Required `iss` of tokens. Empty: only without JWT_SECRET and JWT_JWKS_URL."
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Maximum requests per minute of one API key, or of one user with a token. Empty: no limit.",
    )
    max_queued_jobs: int | None = Field(
        None, ge=1, description="Maximum jobs of one user that wait in the queues at the same time. Empty: no limit."
    )
    uploads_per_day: int | None = Field(
        None, ge=1, description="Maximum files that one user uploads per day. Empty: no limit."
    )
    max_stored_mb: int | None = Field(
        None, ge=1, description="Maximum total size of one user's uploads, in MiB. Empty: no limit."
    )
    tokens_per_day: int | None = Field(
        None, ge=1, description="Maximum tokens of the chat model that one user's answers use per day. Empty: no limit."
    )
    data_dir: Annotated[Path, AfterValidator(make_absolute)] = Field(
        Path("data"), description="Folder of all stored data. A relative path starts at the folder of main.py."
    )
    # Must stand before valkey_url, whose check adds the file to the URL.
    tls_ca_file: Annotated[Path, AfterValidator(check_ca_file)] | None = Field(
        None,
        description="PEM file of the only certificate authorities to trust for Valkey at rediss:// and Qdrant at "
        "https://. Empty: those of the system.",
    )
    valkey_url: str | None = Field(
        None,
        validation_alias=AliasChoices("VALKEY_URL", "REDIS_URL", "RQ_REDIS_URL"),
        repr=False,
        description="URL of the Valkey or Redis server of the queues. Empty: main.py starts an embedded Valkey.",
    )
    valkey_appendfsync: Literal["always", "everysec"] = Field(
        "always",
        description="When the embedded Valkey, or that of docker-compose.yml, syncs its file to disk. `always`: before "
        "each reply. `everysec`: once a second, so that a crash of the machine, or of Valkey on a slow disk, loses "
        "accepted jobs of up to 2 s. With syncs of 0.9 ms, 16 clients made 2,000 writes per second with `always` and "
        "30,000 with `everysec`, 128 clients 12,000 and 80,000.",
    )
    openai_api_key: Annotated[SecretStr, AfterValidator(check_header_value)] | None = Field(
        None,
        description="API key of the model provider. Empty with OPENAI_BASE_URL set: that server needs no key. Both "
        "empty: offline, answers quote the documents.",
    )
    openai_base_url: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None,
        description="URL of an OpenAI-compatible server (Ollama, vLLM, ...). Empty: OpenAI itself if OPENAI_API_KEY is "
        "set, else offline.",
    )
    chat_model: str = Field("gpt-4.1-mini", description="Name of the model that writes the answers.")
    embedding_model: str = Field(
        "text-embedding-3-small",
        description=f"Name of the model that embeds text. `{LEXICAL_MODEL}`: lexical search only. `{LOCAL_MODEL}`: a "
        "model inside the worker, which `make local` installs.",
    )
    chat_models: str = Field(
        "", description="Further chat models that a question may ask for, separated by commas. Empty: CHAT_MODEL only."
    )
    context_tokens: int = Field(
        3_000, ge=200, le=1_000_000, description="Maximum document text given to the model for one answer, in tokens."
    )
    first_token_timeout_seconds: int = Field(
        150,
        ge=1,
        le=86_400,
        description="How long the chat model may read before it begins to answer, in seconds. JOB_TIMEOUT_SECONDS "
        "bounds the whole question.",
    )
    next_token_timeout_seconds: int = Field(
        60, ge=1, le=86_400, description="How long the chat model may pause within an answer, in seconds."
    )
    rerank_url: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None, description="URL of a reranking endpoint like `/rerank` of Cohere and Jina. Empty: no reranking."
    )
    rerank_api_key: Annotated[SecretStr, AfterValidator(check_header_value)] | None = Field(
        None, description="API key of the reranking endpoint. Empty: no key is sent."
    )
    rerank_model: str = Field("rerank-v3.5", description="Name of the model that the reranking endpoint uses.")
    verify_model: str | None = Field(
        None,
        description="Name of the chat model that verifies the citations of each answer, in one call more: CHAT_MODEL "
        "or another model of the same server. Empty: citations are not verified.",
    )
    verify_timeout_seconds: int = Field(
        15, ge=1, le=3_600, description="How long VERIFY_MODEL may take for one answer, in seconds."
    )
    verify_tokens: int = Field(
        6_000,
        ge=100,
        le=1_000_000,
        description="Maximum sources and claims sent to VERIFY_MODEL for one answer, in tokens.",
    )
    database_url: Annotated[str, AfterValidator(check_database_url)] | None = Field(
        None,
        repr=False,
        description="URL of the database of uploads and API keys: postgresql://user:password@host/database. "
        "Empty: SQLite under DATA_DIR.",
    )
    file_store_url: Annotated[str, AfterValidator(check_s3_url)] | None = Field(
        None, description="S3 location of uploaded files: s3://bucket/prefix. Empty: the folder files/ under DATA_DIR."
    )
    aws_access_key_id: SecretStr | None = Field(
        None, repr=False, description="Access key id for the S3 bucket. Empty: the role of the machine."
    )
    aws_secret_access_key: SecretStr | None = Field(
        None, repr=False, description="Secret of AWS_ACCESS_KEY_ID. Empty: the role of the machine."
    )
    aws_endpoint_url: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None, description="URL of an S3 server other than Amazon's, such as MinIO. Empty: Amazon S3."
    )
    aws_region: str = Field("us-east-1", description="Region of the S3 bucket.")
    max_upload_mb: int = Field(
        100, ge=1, le=10_240, description="Maximum request body of POST /uploads, all files together, in MiB."
    )
    max_pages: int = Field(5_000, ge=1, description="Maximum pages of one document.")
    max_text_mb: int = Field(50, ge=1, le=1_024, description="Maximum extracted text of one document, in MiB of UTF-8.")
    extract_memory_mb: int = Field(
        512, ge=64, le=1_048_576, description="Maximum memory for reading one file, in MiB, beside the reader itself."
    )
    extract_seconds: int = Field(
        10,
        ge=1,
        le=86_400,
        description="CPU seconds for extracting the text of one file. Each page that was read adds 0.1 s, up to twice "
        "the value. A reader that gets no CPU ends after 2.5 times the value.",
    )
    page_cache_mb: int = Field(
        256, ge=1, le=1_048_576, description="Maximum size of what is kept of viewed pages in DATA_DIR, in MiB."
    )
    ocr_languages: str = Field(
        "eng",
        pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$",
        description="Languages of scans and images, in tesseract's names: eng+deu. Their packs, such as Debian's "
        "tesseract-ocr-deu, must be installed; of several scripts the page's own is chosen. Each language takes time.",
    )
    document_converter_url: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None, description="URL of a docling-serve, for what is not readable here (docs/uploads.md). Empty: none."
    )
    document_converter_api_key: Annotated[SecretStr, AfterValidator(check_header_value)] | None = Field(
        None, description="API key of the docling-serve. Empty: no key is sent."
    )
    ingestion_timeout_seconds: int = Field(
        3_600, ge=1, le=86_400, description="Maximum run time of a job that indexes a file, in seconds."
    )
    provider_requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Maximum calls per minute to the model provider, all workers together. Empty: no limit.",
    )
    api_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="API processes that share HOST and PORT, each with one CPU core at most. More than 1 does not run "
        "on Windows.",
    )
    worker_processes: int = Field(
        1, ge=1, le=256, description="Worker processes that main.py starts. More than 1 needs QDRANT_URL."
    )
    worker_concurrency: int = Field(
        32, ge=1, le=1000, description="Jobs that one worker process runs at the same time."
    )
    worker_queues: str = Field(
        "",
        description="Queues that `main.py worker` serves, separated by commas: rag_queries, rag_documents, "
        "rag_webhooks. Empty: all. Every queue needs a worker.",
    )
    heartbeat_file: Annotated[Path, AfterValidator(make_absolute)] | None = Field(
        None,
        description="A file that a worker touches once a second, after a heartbeat that reached Valkey.",
    )
    job_timeout_seconds: int = Field(
        180, ge=1, le=86_400, description="Maximum run time of a job that answers a question, in seconds."
    )
    # At most ten years. Valkey refuses about 10^16 s and more, but only once a job runs.
    result_ttl_seconds: int = Field(
        86_400,
        ge=1,
        le=315_360_000,
        description="How long the result of an ended job, a conversation and a cached answer are kept, in seconds.",
    )
    webhook_allow_http: bool = Field(
        default=False, description="True: webhook URLs may start with http://. False: https:// only."
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="True: webhooks may go to this machine and to private networks. False: public addresses only.",
    )
    webhook_log_days: int = Field(
        7, ge=4, le=90, description="How long a webhook delivery stays in the log after its last attempt, in days."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of log lines that are written."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of log lines: `text` for people, `json` for programs."
    )
    log_content: bool = Field(
        default=False,
        description="True: log lines may contain questions, answers and texts of unexpected errors. False: ids only.",
    )
    audit_log: Annotated[Path, AfterValidator(make_absolute)] | None = Field(
        None,
        description="File to which the service and its commands append the audit log; the service also writes it to "
        "standard error. A relative path starts at the folder of main.py. Empty: no file.",
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
        """Return the sources, strongest first: keyword arguments, the environment, `.env`."""
        return init_settings, EnvironmentSource(settings_cls), EnvFileSource(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_to_default(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[str(info.field_name)].default
        return value.strip() if isinstance(value, str) else value

    @field_validator("valkey_url")
    @classmethod
    def _check_valkey_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else check_valkey_url(value, ca_file=info.data.get("tls_ca_file"))

    @model_validator(mode="after")
    def _check_auth(self) -> Self:
        if self.auth_required and self.allow_anonymous:
            raise ValueError("AUTH_REQUIRED and ALLOW_ANONYMOUS contradict each other: set one of them")
        if self.jwt_secret is not None and self.jwt_jwks_url is not None:
            raise ValueError("JWT_SECRET and JWT_JWKS_URL are two ways to check tokens: set one of them")
        if self.jwt_jwks_url is not None and not is_https_or_loopback(self.jwt_jwks_url):
            raise ValueError("JWT_JWKS_URL must start with https://, so that nobody on the way can change the keys")
        if self.takes_tokens and not (self.jwt_audience and self.jwt_issuer):
            raise ValueError("JWT_AUDIENCE and JWT_ISSUER must be set, so that tokens made for others are refused")
        return self

    @model_validator(mode="after")
    def _check_embedded_qdrant(self) -> Self:
        if self.worker_processes > 1 and self.qdrant_url is None:
            raise ValueError(
                f"WORKER_PROCESSES is {self.worker_processes}, but only one process can open the embedded Qdrant: "
                "set QDRANT_URL to a Qdrant server, or WORKER_PROCESSES=1"
            )
        return self

    @model_validator(mode="after")
    def _check_api_processes(self) -> Self:
        if self.api_processes > 1 and sys.platform == "win32":  # a child process cannot inherit a socket there
            raise ValueError("API_PROCESSES must be 1 on Windows: run more in Docker or WSL")
        return self

    @property
    def takes_tokens(self) -> bool:
        """True if callers may send a JWT."""
        return self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the API."""
        return is_loopback(self.host)

    @property
    def offline(self) -> bool:
        """True if no model provider is configured: answers then quote passages."""
        return self.openai_api_key is None and self.openai_base_url is None

    @property
    def dense_model(self) -> str | None:
        """Name of the embedding model; None if search is lexical only."""
        if self.embedding_model == LOCAL_MODEL:
            return LOCAL_MODEL
        return None if self.offline or self.embedding_model == LEXICAL_MODEL else self.embedding_model

    @property
    def allowed_models(self) -> tuple[str, ...]:
        """Chat models that a question may ask for, CHAT_MODEL first; empty when offline."""
        return () if self.offline else tuple(dict.fromkeys([self.chat_model, *split_list(self.chat_models)]))

    @property
    def models_dir(self) -> Path:
        """Folder of the local embedding model, as it was built for this machine."""
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
        """Folder of uploaded files if FILE_STORE_URL is not set."""
        return self.data_dir / "files"

    @property
    def pages_dir(self) -> Path:
        """Folder of the pictures and texts of pages that were viewed."""
        return self.data_dir / "pages"

    @property
    def queue_url(self) -> str:
        """VALKEY_URL, else the URL of the embedded Valkey that main.py has started, else the default URL."""
        if self.valkey_url is not None:
            return self.valkey_url
        try:
            return (self.valkey_dir / "url").read_text().strip() or DEFAULT_VALKEY_URL
        except OSError:
            return DEFAULT_VALKEY_URL
