"""The settings of the metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from settings.addresses import check_listen_host


class MetricsSettings(BaseSettings):
    """The settings of the metrics, a part of Settings."""

    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port of this machine at which Prometheus reads /metrics without a key; one process of the "
        "service at a time listens there. Empty: only GET /metrics of the API, for administrators.",
    )
    metrics_host: Annotated[str, AfterValidator(check_listen_host)] = Field(
        "127.0.0.1",
        description="Address that METRICS_PORT is opened on. Whoever reaches it reads all metrics: they name workers, "
        "queues and models, and no users, documents or questions.",
    )
