"""The quality and the speed of search: `make bench-retrieval`.

Quality on the questions that ship with the project, or on a folder of PDFs and a file of questions of your own, by
words alone and with the embedding models at hand. Speed of a filtered, hybrid search over made-up chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from cli import evaluate
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.qdrant.store import VectorStore
from errors import AppError
from rag.eval.metrics import quantile, read_questions, summarise
from rag.eval.report import percent
from rag.search.fusion import CANDIDATES
from schemas import Chunk, SearchFilter
from settings import LEXICAL_MODEL, LOCAL_MODEL, Settings, load_settings

SAMPLES = Path(__file__).parent.parent / "samples"
SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 384
BATCH = 500
SEARCHES = 60
UPLOAD_CHUNKS = 250
VOCABULARY = 20_000
CHUNK_WORDS = 80


def main() -> None:
    """Print quality, then speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=SAMPLES / "handbook.pdf", help="documents to search (default: the sample)"
    )
    parser.add_argument("--questions", type=Path, default=SAMPLES / "handbook.questions.jsonl")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of chunks to search among")
    options = parser.parse_args()
    settings = load_settings()
    quality(settings, options.folder, options.questions)
    print(f"\nspeed of a search with a filter, hybrid ({DIMENSIONS} dimensions and words), {SEARCHES} searches each")
    for size in options.sizes:
        embedded(size)
        if settings.qdrant_url is not None:
            server(settings, size)
    if settings.qdrant_url is None:
        print("Qdrant server: not measured, QDRANT_URL is not set")


def quality(settings: Settings, folder: Path, file: Path) -> None:
    """Print the quality of each kind of search on a file of questions."""
    questions = read_questions(file.read_text(encoding="utf-8").splitlines())
    print(f"{len(questions)} questions of {file.name} over {folder}")
    print(f"{'search by':<24}{'@1':>8}{'@3':>8}{'@5':>8}{'@10':>8}{'MRR':>8}{'quoted':>9}{'refused':>9}{'wrongly':>9}")
    for model in dict.fromkeys([LEXICAL_MODEL, LOCAL_MODEL, settings.dense_model or LEXICAL_MODEL]):
        # Quotes are measured, not what a chat model makes of them: that is `main.py eval`.
        chosen = settings.model_copy(update={"embedding_model": model})
        try:
            with evaluate.temporary_services(chosen, [folder], quoting=True) as use:
                found = summarise(asyncio.run(evaluate.run(questions, use, k=6)))
        except AppError as error:
            print(f"{model:<24}  {error.detail}")
            continue
        shares = [percent(found.hit[k]) for k in (1, 3, 5, 10)]
        mrr = "–" if found.mrr is None else f"{found.mrr:.3f}"
        rest = [percent(found.citation_precision), percent(found.refused), percent(found.wrongly_refused)]
        print(f"{model:<24}" + "".join(f"{one:>8}" for one in [*shares, mrr]) + "".join(f"{one:>9}" for one in rest))


def embedded(size: int) -> None:
    """Measure the engine in this process."""
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        words, dense = Words(), RandomVectors()
        store = embedded_store(Path(folder), model="bench", dense=dense, bm25=Bm25Encoder(), owner=True)
        try:
            measure("embedded", store, words, size)
            store.close()
            started = time.perf_counter()
            store = embedded_store(Path(folder), model="bench", dense=dense, bm25=Bm25Encoder())
            one_search(store, words.question(), SearchFilter(user_id="local"))
            print(f"{'':>22}opened, searched and closed in {1000 * (time.perf_counter() - started):.0f} ms")
        finally:
            store.close()


def server(settings: Settings, size: int) -> None:
    """Measure the server that QDRANT_URL names, in a collection of its own."""
    from client.qdrant.connection import connect
    from client.qdrant.points import collection_name
    from client.qdrant.server import server_store

    client = connect(settings)
    model = f"bench-{size}-{time.time_ns()}"
    store = server_store(client, model=model, dense=RandomVectors(), bm25=Bm25Encoder())
    try:
        measure("server", store, Words(), size)
    finally:
        client.delete_collection(collection_name(model))
        store.close()


def measure(name: str, store: VectorStore, words: Words, size: int) -> None:
    """Fill a store and search it."""
    started = time.perf_counter()
    batch: list[Chunk] = []
    for chunk in words.chunks(size):
        batch.append(chunk)
        if len(batch) == BATCH:
            store.upsert(batch)
            batch = []
    store.upsert(batch)
    filled = time.perf_counter() - started
    uploads = max(1, size // UPLOAD_CHUNKS)
    for label, chosen in (
        ("10 uploads", SearchFilter(user_id="local", upload_ids=tuple(f"u{n}" for n in range(min(10, uploads))))),
        ("all", SearchFilter(user_id="local")),
    ):
        times = sorted(one_search(store, words.question(), chosen) for _ in range(SEARCHES))
        print(
            f"{name:<10}{size:>8} chunks  {label:<11} p50 {quantile(times, 0.5):7.2f} ms"
            f"  p95 {quantile(times, 0.95):7.2f} ms  (stored at {size / filled:.0f}/s)"
        )


def one_search(store: VectorStore, question: str, chosen: SearchFilter) -> float:
    """Return the milliseconds of a search, without the time to embed the question."""
    vector = store.embed(question)
    started = time.perf_counter()
    store.search(question, vector, chosen, CANDIDATES)
    return 1000 * (time.perf_counter() - started)


class RandomVectors:
    """Vectors without meaning, which cost nothing to make."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, _text: str) -> list[float]:
        return [self._random.gauss(0, 1) for _ in range(DIMENSIONS)]


class Words:
    """Text of made-up words with the frequencies of a language: the n-th word has frequency 1/n (Zipf)."""

    def __init__(self) -> None:
        self._random = random.Random(11)
        letters = "bdfgklmnprstv"
        vowels = "aeiou"
        self._words = [
            "".join(self._random.choice(letters) + self._random.choice(vowels) for _ in range(4))
            for _ in range(VOCABULARY)
        ]
        self._weights = list(accumulate(1 / n for n in range(1, VOCABULARY + 1)))

    def text(self, count: int) -> str:
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=count))

    def question(self) -> str:
        return self.text(8)

    def chunks(self, count: int) -> Iterator[Chunk]:
        """Yield chunks of uploads of UPLOAD_CHUNKS each, four to a page."""
        for n in range(count):
            upload, index = divmod(n, UPLOAD_CHUNKS)
            text = self.text(CHUNK_WORDS)
            yield Chunk(
                id=f"00000000-0000-4000-8000-{n:012d}",
                upload_id=f"u{upload}",
                user_id="local",
                name=f"report {upload}.pdf",
                index=index,
                page=index // 4 + 1,
                page_label=str(index // 4 + 1),
                start=0,
                end=len(text),
                text=text,
                page_text=text if index % 4 == 0 else "",
                opening=text if index == 0 else "",
            )


if __name__ == "__main__":
    main()
