"""What each part of search adds: page hits with one part left out at a time, beside BM25 and embeddings alone.

The half of the questions with even numbers, or with HELD_OUT=1 the other half, which is for a last look.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench.made_documents import made_sets
from cli import evaluate
from client.llm.local_embeddings import local_embedder
from client.qdrant import queries
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.qdrant.store import VectorStore
from errors import SettingsError
from rag.eval.metrics import Question, pages_found
from rag.ingest.chunking import chunk_pages
from rag.search import fusion, retriever, searches, titles
from rag.search.question import SearchedQuestion
from rag.search.retriever import QueryEmbedder, Retriever
from schemas import Passage, Query, SearchFilter
from settings import LEXICAL_MODEL, Settings

HITS = (1, 5, 10)
Patch = tuple[Any, str, Any]


class CachedEmbedder:
    """Embeds each question once: every row of the table asks the same questions."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self._vectors: dict[str, list[float] | None] = {}

    async def embed_query(self, text: str) -> list[float] | None:
        if text not in self._vectors:
            self._vectors[text] = self._store.embed(text)
        return self._vectors[text]


def weighted(**weights: float) -> Patch:
    """Return the patch that fuses with other weights."""
    return searches, "fuse", partial(fusion.fuse, weights=fusion.FusionWeights(**weights))


# Each row of the table, and what it patches.
WITHOUT: dict[str, Sequence[Patch]] = {
    "search as it is": (),
    "- IDF of what is searched": [(queries, "corpus_of", lambda _filter: None)],
    "- documents named": [(searches, "named_documents", lambda *_: {})],
    "- tables and phrases named": [(searches, "named_captions", lambda _question: [])],
    "- titles": [(titles, "TITLE_WEIGHT", 0.0), (titles, "STATEMENT_WEIGHT", 0.0)],
    "- financial statements": [(searches, "statements_of", lambda _question: [])],
    "- form and places": [(retriever, "read_question", lambda asked: SearchedQuestion(asked, asked))],
    "- whole pages": [weighted(pages=0.0)],
    "- fit of documents": [weighted(document=0.0)],
    "- closeness": [(retriever, "PROXIMITY_WEIGHT", 0.0)],
}


def print_ablation(settings: Settings, folder: Path | None, questions: Sequence[Question]) -> None:
    """Print the table for the sets that a script makes, or for a folder and its questions, by words and by meaning."""
    models: dict[str, Any] = {"words": None}
    try:
        models["words and local embeddings"] = local_embedder(settings.data_dir / "models")
    except SettingsError as error:
        print(f"local embeddings: {error.detail}")
    for name, model in models.items():
        opened = _made(model) if folder is None else _indexed(settings, folder, questions, model)
        with opened as (store, sets):
            half = {kind: asked[bool(os.environ.get("HELD_OUT")) :: 2] for kind, asked in sets.items()}
            embedder = CachedEmbedder(store) if model else None
            print(f"\n{name}: page hit@1/5/10 in the right document and across all")
            print(f"{'':<28}{'mean':>40}" + "".join(f"{f'{kind} ({len(asked)})':>40}" for kind, asked in half.items()))
            _row("BM25 of chunks alone", store, half, alone="sparse")
            if embedder is not None:
                _row("embeddings alone", store, half, embedder, alone="dense")
            for label, patches in WITHOUT.items():
                _row(label, store, half, embedder, patches)


def _row(
    label: str,
    store: VectorStore,
    sets: Mapping[str, Sequence[Question]],
    embedder: QueryEmbedder | None = None,
    patches: Sequence[Patch] = (),
    *,
    alone: str = "",
) -> None:
    """Print a row: the mean of the sets, then each set."""
    rows: dict[str, tuple[list[float], list[float]]] = {}
    with ExitStack() as patched:
        for where, name, value in patches:
            patched.enter_context(patch.object(where, name, value))
        for kind, questions in sets.items():
            inside, across = (
                [_rank(question, store, embedder, alone, within=within) for question in questions]
                for within in (True, False)
            )
            rows[kind] = _shares(inside), _shares(across)
    mean = tuple([statistics.fmean(row[at][n] for row in rows.values()) for n in range(len(HITS))] for at in (0, 1))
    cells = [
        "   ".join("/".join(f"{share:5.1f}" for share in shares) for shares in row) for row in (mean, *rows.values())
    ]
    print(f"{label:<28}" + "".join(f"{cell:>40}" for cell in cells), flush=True)


def _shares(ranks: list[int | None]) -> list[float]:
    return [100 * sum(rank is not None and rank <= k for rank in ranks) / max(1, len(ranks)) for k in HITS]


def _rank(
    question: Question, store: VectorStore, embedder: QueryEmbedder | None, alone: str, *, within: bool
) -> int | None:
    """Return the rank of the first right page; None if no search found it."""
    chosen = SearchFilter(user_id=None, names=(question.upload,) if within and question.upload else None)
    pages = pages_found(_ranked(question.question, store, embedder, chosen, alone))
    right = (n for n, (name, page) in enumerate(pages, 1) if page in question.pages and question.upload in {None, name})
    return next(right, None)


def _ranked(
    question: str, store: VectorStore, embedder: QueryEmbedder | None, chosen: SearchFilter, alone: str
) -> list[Passage]:
    if not alone:
        finder = Retriever(store, Bm25Encoder().terms, embedder=embedder, context_tokens=0)
        return asyncio.run(finder.retrieve(Query(query=question, k=max(HITS)), chosen)).ranked
    vector = asyncio.run(embedder.embed_query(question)) if embedder else None
    [found] = store.search(question, vector, [chosen], fusion.CANDIDATES)
    return found.sparse if alone == "sparse" else found.dense or []


@contextmanager
def _made(model: Any) -> Iterator[tuple[VectorStore, dict[str, list[Question]]]]:
    """Open a store with the made documents of all kinds."""
    with TemporaryDirectory(prefix="bench-retrieval-") as folder:
        store = embedded_store(Path(folder), model="bench", dense=model, bm25=Bm25Encoder(), owner=True)
        sets = made_sets()
        for documents, _ in sets.values():
            store.upsert([chunk for made in documents for chunk in chunk_pages(*made, model="bench")])
        yield store, {kind: questions for kind, (_, questions) in sets.items()}
        store.close()


@contextmanager
def _indexed(
    settings: Settings, folder: Path, questions: Sequence[Question], model: Any
) -> Iterator[tuple[VectorStore, dict[str, Sequence[Question]]]]:
    """Open a store with the documents of a folder."""
    chosen = settings.model_copy(update={"embedding_model": "local" if model else LEXICAL_MODEL})
    with evaluate.temporary_services(chosen, [folder], quoting=True) as services:
        asked = [question for question in questions if question.answerable and question.pages]
        yield services.store, {folder.name: asked}
