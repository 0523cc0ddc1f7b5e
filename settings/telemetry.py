"""The settings of the traces, under the names that OpenTelemetry gives them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from settings.addresses import check_http_url, split_list

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


def read_pairs(text: str) -> dict[str, str]:
    """Read `name=value,name=value`, as OpenTelemetry writes headers and attributes. Raises ValueError."""
    pairs = {}
    for entry in split_list(text):
        name, equals, value = entry.partition("=")
        if not equals or not name.strip():
            raise ValueError("must be name=value pairs with commas between them")
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs


def _check_headers(secret: SecretStr) -> SecretStr:
    for name, value in read_pairs(secret.get_secret_value()).items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("must be headers such as authorization=Bearer%20TOKEN, with commas between them")
    return secret


def _check_attributes(text: str) -> str:
    read_pairs(text)
    return text


class TelemetrySettings(BaseSettings):
    """The settings of the traces, a part of Settings."""

    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(check_http_url)] | None = Field(
        None,
        description="URL of an OpenTelemetry Collector, Jaeger, Tempo or another server of OTLP over HTTP, such as "
        "http://127.0.0.1:4318: traces are sent to its /v1/traces. Needs `make telemetry`. Empty: no traces.",
    )
    otel_exporter_otlp_headers: Annotated[SecretStr, AfterValidator(_check_headers)] | None = Field(
        None,
        description="Headers to send with traces, such as `authorization=Bearer%20TOKEN`; several with commas between "
        "them.",
    )
    otel_service_name: str = Field("rag", description="`service.name` of the traces.")
    otel_resource_attributes: Annotated[str, AfterValidator(_check_attributes)] | None = Field(
        None,
        description="Attributes of this process in traces, such as `deployment.environment.name=production`; several "
        "with commas between them.",
    )
    otel_traces_sampler_arg: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the requests that are traced. A request that comes with a `traceparent` is traced if "
        "that says so, and the jobs of a request are traced with it.",
    )
