"""The kinds of file that are taken, for the API, which does not import `rag`."""

from rag.ingest.media_types import MEDIA_TYPES, detect

__all__ = ["MEDIA_TYPES", "detect"]
