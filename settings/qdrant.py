"""The settings of a Qdrant server: its nodes, its key, and how a cluster of them keeps the vectors."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from settings.addresses import check_qdrant_urls, split_list
from settings.values import check_header_value


class QdrantSettings(BaseSettings):
    """The settings of a Qdrant server, a part of Settings."""

    qdrant_url: Annotated[str, AfterValidator(check_qdrant_urls)] | None = Field(
        None,
        description="URL of the Qdrant server, or URLs of several nodes of one cluster, separated by commas: each is "
        "tried when those before it do not answer. Without a port: 443 for https, 6333 for http. Empty: the embedded "
        "Qdrant in the one worker process.",
    )
    qdrant_api_key: Annotated[SecretStr, AfterValidator(check_header_value)] | None = Field(
        None, description="API key of the Qdrant server. Empty: no key is sent."
    )
    qdrant_replication: int = Field(
        1, ge=1, le=32, description="Copies of each shard of a new collection, on as many nodes of the Qdrant cluster."
    )
    qdrant_write_consistency: int = Field(
        1,
        ge=1,
        le=32,
        description="How many copies must have stored a write before it counts, in a new collection. At most "
        "QDRANT_REPLICATION.",
    )

    @model_validator(mode="after")
    def _check_write_consistency(self) -> Self:
        if self.qdrant_write_consistency > self.qdrant_replication:
            raise ValueError(
                f"QDRANT_WRITE_CONSISTENCY is {self.qdrant_write_consistency}, but there are only "
                f"{self.qdrant_replication} copies to store a write: raise QDRANT_REPLICATION"
            )
        return self

    @property
    def qdrant_urls(self) -> tuple[str, ...]:
        """QDRANT_URL as a tuple; empty for the embedded Qdrant."""
        return split_list(self.qdrant_url or "")
