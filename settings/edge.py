"""The settings of the way from a browser or client to the API: other origins, names of the server, reverse proxies."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from settings.addresses import check_host_names, check_origins, check_proxies, check_root_path, split_list


class EdgeSettings(BaseSettings):
    """The settings of the way from a client to the API, a part of Settings."""

    cors_origins: Annotated[str, AfterValidator(check_origins)] = Field(
        "",
        description="Origins whose web pages may call the API, separated by commas: https://app.example, ... `*`: all. "
        "Empty: only pages of the API itself.",
    )
    allowed_hosts: Annotated[str, AfterValidator(check_host_names)] = Field(
        "",
        description="Names of this server in a Host header besides localhost, separated by commas; checked while calls "
        "need no key. Empty: no further name if HOST is loopback, else any name.",
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
    docs_enabled: bool = Field(
        default=True, description="True: /docs and /openapi.json are served. False: both answer 404."
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """CORS_ORIGINS as a tuple."""
        return split_list(self.cors_origins)

    @property
    def hosts(self) -> tuple[str, ...]:
        """ALLOWED_HOSTS as a tuple."""
        return split_list(self.allowed_hosts)
