"""The settings of the way from a browser or client to the API: other origins, names of the server, reverse proxies."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from settings.addresses import (
    check_host_names,
    check_origins,
    check_proxies,
    check_public_url,
    check_root_path,
    split_list,
)


class EdgeSettings(BaseSettings):
    """The settings of the way from a client to the API, a part of Settings."""

    cors_origins: Annotated[str, AfterValidator(check_origins)] = Field(
        "",
        description="Origins whose web pages may call the API, separated by commas: https://app.example, ... `*`: all. "
        "Empty: only pages of the API itself.",
    )
    allowed_hosts: Annotated[str, AfterValidator(check_host_names)] = Field(
        "",
        description="Names of this server in a Host header besides localhost and PUBLIC_URL's, separated by commas; "
        "checked while calls need no key. Empty: no further name if HOST is loopback, else any name.",
    )
    trusted_proxies: Annotated[str, AfterValidator(check_proxies)] = Field(
        "",
        description="Addresses or networks of reverse proxies whose X-Forwarded-For, X-Forwarded-Proto and "
        "X-Forwarded-Prefix count, separated by commas, or `*` for all. Empty: none.",
    )
    root_path: Annotated[str, AfterValidator(check_root_path)] = Field(
        "",
        description="Path under which a reverse proxy makes the API public, such as /rag, whether the proxy strips the "
        "path or not. X-Forwarded-Prefix of TRUSTED_PROXIES wins. Empty: the root.",
    )
    public_url: Annotated[str, AfterValidator(check_public_url)] | None = Field(
        None,
        description="Address under which people reach this server, such as https://rag.example. The links of citations "
        "under /v1 then begin with it and are signed: each opens its page without a key, for RESULT_TTL_SECONDS. "
        "Empty: these links name the address of the request, and need a key.",
    )
    docs_enabled: bool = Field(
        default=True, description="True: /docs and /openapi.json are served. False: both answer 404."
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """CORS_ORIGINS as a tuple."""
        return split_list(self.cors_origins)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names in ALLOWED_HOSTS, and that in PUBLIC_URL."""
        public = None if self.public_url is None else urlsplit(self.public_url).hostname
        return (*split_list(self.allowed_hosts), *([public] if public else []))
