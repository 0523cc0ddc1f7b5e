"""The environment that libraries read: variables that would send data elsewhere are removed, proxies are checked.

Only documented settings say where data goes. Libraries also read variables of their own: LangChain sends questions,
passages and answers to the server of `LANGSMITH_ENDPOINT`, and `AWS_ENDPOINT_URL_S3` wins over the endpoint that a
client was given. Variables are removed when the settings are read, before any of these libraries is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import IPv6Network, ip_address, ip_network
from pathlib import Path
from ssl import create_default_context
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from errors import SettingsError
from settings.addresses import check_http_url
from settings.model import Settings

OPENAI_URL = "https://api.openai.com/v1"
S3_URL = "https://s3.amazonaws.com"

# Prefixes of variables by which a library chooses where data goes, as whom, or what goes with it.
REMOVED_PREFIXES = (
    "LANGCHAIN_",  # tracing, the LLM gateway
    "LANGSMITH_",
    "HOSTED_LANGSERVE_",
    "OPENAI_",  # the SDK: proxy, organisation, project, headers, and a log of whole requests
    "AZURE_OPENAI_",
    "OTEL_",  # OpenTelemetry, in FastAPI and langsmith
    "FASTAPI_OTEL_",
    "AWS_ENDPOINT",  # the S3 client; the role of the machine and server-side encryption stay
    "AWS_METADATA_ENDPOINT",
    "AWS_PROXY",
    "QDRANT_",
    "LC_OUTPUT_VERSION",  # "LC_" alone would remove the locale
)
# libpq: where DATABASE_URL leads. User, password and certificates stay.
REMOVED = frozenset({"PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"})
_DOCUMENTED = frozenset(name.upper() for name in Settings.model_fields)
_PROXY_SCHEMES = ("http", "https", "all")
_NO_PROXY_NAME = re.compile(r"\*|([a-z]+://)?[*.]*[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?(:[0-9]{1,5})?(/[0-9]*)?")


def prepare_environment(settings: Settings) -> None:
    """Remove the variables that would send data elsewhere, and check those of proxies and certificates.

    A proxy that cannot be used stops the start where a setting would use it. Otherwise its variable is removed, since
    libraries fail on it even for calls that do not use it. Safe to call again.

    Raises SettingsError.
    """
    for name in [name for name in os.environ if is_removed(name)]:
        del os.environ[name]
    _clean_no_proxy()
    if destinations := list(_destinations(settings)):
        _check_proxies(destinations)
        _check_certificates()


def is_removed(name: str) -> bool:
    """Return True for a variable that only libraries read, and that decides where data goes."""
    return name not in _DOCUMENTED and (name in REMOVED or name.startswith(REMOVED_PREFIXES))


def _destinations(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the setting and the URL of each HTTP server that the settings name. Webhooks never go through a proxy."""
    if not settings.offline:
        yield "OPENAI_BASE_URL", settings.openai_base_url or OPENAI_URL
    if settings.file_store_url is not None:
        yield "FILE_STORE_URL", settings.aws_endpoint_url or S3_URL
    for url in settings.qdrant_urls:
        yield "QDRANT_URL", url
    for name in ("rerank_url", "document_converter_url", "jwt_jwks_url", "otel_exporter_otlp_endpoint"):
        if url := getattr(settings, name):
            yield name.upper(), url


def _check_proxies(destinations: list[tuple[str, str]]) -> None:
    proxies = getproxies()
    for scheme in _PROXY_SCHEMES:
        problem = _proxy_problem(proxies.get(scheme, ""))
        if problem is None:
            continue
        variables = [name for name in os.environ if name.lower() == f"{scheme}_proxy"]
        for setting, url in destinations:
            if _proxy_scheme(url, proxies) == scheme:
                name = next((name for name in variables if os.environ[name] == proxies[scheme]), f"{scheme}_proxy")
                raise SettingsError(
                    f"{name} {problem}, and {setting} would use it: correct it, unset it, or add the host to NO_PROXY"
                )
        for name in variables:
            del os.environ[name]


def _proxy_problem(proxy: str) -> str | None:
    """Return why a proxy cannot be used; None if it can be used, or is empty."""
    if not proxy:
        return None
    if proxy.lower().startswith("socks"):
        return "names a SOCKS proxy, which is not supported"
    try:
        check_http_url(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        return "must be the URL of an HTTP proxy such as http://proxy.example:3128"
    return None


def _proxy_scheme(url: str, proxies: dict[str, str]) -> str | None:
    """Return which of the proxies a URL goes through: that of its scheme, or that of all schemes."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)


def _check_certificates() -> None:
    for name, problem in (("SSL_CERT_FILE", _file_problem), ("SSL_CERT_DIR", _folder_problem)):
        if (value := os.environ.get(name)) and (said := problem(value)):
            raise SettingsError(f"{name} {said}: correct it or unset it")


def _file_problem(value: str) -> str | None:
    try:
        create_default_context(cafile=value)
    except (OSError, ValueError) as error:  # also SSLError
        return f"must name a readable PEM file of certificates ({error})"
    return None


def _folder_problem(value: str) -> str | None:
    found = any(Path(folder).is_dir() for folder in value.split(os.pathsep))
    return None if found else "must name a folder of certificates"


def _clean_no_proxy() -> None:
    """Leave out the entries of NO_PROXY that httpx cannot parse: it raises on them, even where no proxy is set."""
    for name in [name for name in os.environ if name.lower() == "no_proxy"]:
        entries = [entry.strip() for entry in os.environ[name].split(",")]
        os.environ[name] = ",".join(filter(None, map(_no_proxy_entry, entries)))


def _no_proxy_entry(entry: str) -> str | None:
    """Return an entry as every library takes it; None if no library does. An IPv6 address has no brackets."""
    bare = entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    try:
        network = ip_network(bare, strict=False)
    except ValueError:
        return entry if _NO_PROXY_NAME.fullmatch(entry) else None
    if isinstance(network, IPv6Network):
        return str(network.network_address) if network.num_addresses == 1 else None
    return entry
