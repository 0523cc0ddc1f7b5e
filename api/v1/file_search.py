"""The search of files: the tool of a response, and the options of a search of a vector store."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from api.v1 import ids
from api.v1.errors import ApiError, unsupported
from schemas import MAX_K
from schemas.attribute_filters import check_filter

# The vector store that always exists: every document that the caller may search.
EVERY_DOCUMENT: Final = "vs_all"


class _RankingOptions(BaseModel):
    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    hybrid_search: Any = None


class SearchOptions(BaseModel):
    """How to search, the same in the tool and in a search of a store."""

    max_num_results: int | None = Field(None, ge=1, le=MAX_K)
    filters: Any = None
    ranking_options: _RankingOptions | None = None

    def check(self, at: str) -> None:
        """Raise ApiError for what cannot be searched so. `at`: what stands before the names of the parameters."""
        if self.filters is not None:
            try:
                check_filter(self.filters)
            except ValueError as error:
                param = f"{at}filters"
                raise ApiError(f"{param}: {error}", code="invalid_request_error", param=param) from None
        if self.ranking_options is not None and self.ranking_options.hybrid_search is not None:
            raise unsupported(f"{at}ranking_options.hybrid_search", "weights cannot be chosen: leave them out")

    def query_options(self) -> dict[str, Any]:
        """Return the options as fields of a question."""
        ranking = self.ranking_options or _RankingOptions()
        options = {
            "k": self.max_num_results,
            "filters": self.filters,
            "min_score": ranking.score_threshold,
            "ranker": "none" if ranking.ranker == "none" else None,
        }
        return {name: value for name, value in options.items() if value is not None}


class FileSearch(SearchOptions):
    """The tool of a response."""

    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=10)]

    def check(self, at: str) -> None:
        """As for the options. Raises ApiError also for ids that are none."""
        super().check(at)
        param = f"{at}vector_store_ids"
        for store_id in self.vector_store_ids:
            if store_id != EVERY_DOCUMENT:
                ids.to_ours(ids.VECTOR_STORE, store_id, param=param)
        if self.filters is not None and EVERY_DOCUMENT in self.vector_store_ids:
            raise unsupported(f"{at}filters", "files have attributes in the stores that you make: name such a store")

    def query_options(self) -> dict[str, Any]:
        """As for the options, with the stores; none stands for every document."""
        if EVERY_DOCUMENT in self.vector_store_ids:
            return super().query_options()
        stores = [ids.to_ours(ids.VECTOR_STORE, one, param="vector_store_ids") for one in self.vector_store_ids]
        return super().query_options() | {"store_ids": tuple(dict.fromkeys(stores))}
