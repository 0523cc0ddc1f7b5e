"""The quality and the speed of search: `make bench-retrieval`.

Quality on the questions that ship with the project, or on a folder of documents and a file of questions of your own, by
words alone and with the embedding models at hand. What each part of search adds, on documents of four kinds that a
script makes, or on your own; HELD_OUT=1 asks the half of the questions that nothing was chosen by. Speed of retrieval
over made-up chunks: from the question's vector to the passages for the model.

"CPU again" is the CPU for questions asked a second time, with their chunks in the caches; "of it search" is the part of
the store. 100,000 chunks take about a minute and 1.3 GB of disk.
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

from bench.ablation import print_ablation
from cli import evaluate
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.qdrant.store import VectorStore
from errors import AppError
from rag.eval.metrics import quantile, read_questions, summarise
from rag.eval.report import percent
from rag.ingest.chunking import chunk_id
from rag.search.fusion import CANDIDATES
from rag.search.relevance import TermExtractor
from rag.search.retriever import Retriever
from schemas import Chunk, Query, SearchFilter
from settings import LEXICAL_MODEL, LOCAL_MODEL, Settings, load_settings

SAMPLES = Path(__file__).parent.parent / "samples"
SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 1_536
BATCH = 500
QUESTIONS = 40
UPLOAD_CHUNKS = 250
PAGE_CHUNKS = 4
VOCABULARY = 20_000
CHUNK_WORDS = 80
SENTENCE_WORDS = 14


def main() -> None:
    """Print quality, then speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="documents to search (default: the sample, and made documents)")
    parser.add_argument("--questions", type=Path, default=SAMPLES / "handbook.questions.jsonl")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of chunks to search among")
    options = parser.parse_args()
    settings = load_settings()
    quality(settings, options.folder or SAMPLES / "handbook.pdf", options.questions)
    print_ablation(settings, options.folder, read_questions(options.questions.read_text("utf-8").splitlines()))
    print(f"\nretrieval without embedding, hybrid ({DIMENSIONS} dimensions and words), {QUESTIONS} questions each; ms")
    columns = ("CPU", "CPU again", "of it search", "p50", "p95")
    print(f"{'':<35}" + "".join(f"{column:>15}" for column in columns))
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
        words, dense = Words("bench"), RandomVectors()
        store = embedded_store(Path(folder), model="bench", dense=dense, bm25=Bm25Encoder(), owner=True)
        try:
            measure("embedded", store, words, dense, size)
            store.close()
            started = time.perf_counter()
            store = embedded_store(Path(folder), model="bench", dense=dense, bm25=Bm25Encoder())
            store.search(words.question(), dense.vector(), [SearchFilter(user_id="local")], CANDIDATES)
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
    vectors = RandomVectors()
    store = server_store(client, model=model, dense=vectors, bm25=Bm25Encoder())
    try:
        measure("server", store, Words(model), vectors, size)
    finally:
        client.delete_collection(collection_name(model))
        store.close()


def measure(name: str, store: VectorStore, words: Words, vectors: RandomVectors, size: int) -> None:
    """Fill a store, and retrieve from it among ten uploads and among all."""
    started = time.perf_counter()
    batch: list[Chunk] = []
    for chunk in words.chunks(size):
        batch.append(chunk)
        if len(batch) == BATCH:
            store.upsert(batch)
            batch = []
    store.upsert(batch)
    filled = time.perf_counter() - started
    print(f"{name:<10}{size:>8} chunks, stored at {size / filled:.0f}/s")
    uploads = max(1, size // UPLOAD_CHUNKS)
    for label, chosen in (
        ("10 uploads", SearchFilter(user_id="local", upload_ids=tuple(f"u{n}" for n in range(min(10, uploads))))),
        ("all", SearchFilter(user_id="local")),
    ):
        questions = {words.question(): vectors.vector() for _ in range(QUESTIONS)}
        terms = Bm25Encoder().terms
        retrieve(store, dict(list(questions.items())[:2]), chosen, terms)  # the first searches read files
        cpu, times = retrieve(store, questions, chosen, terms)
        again, _ = retrieve(store, questions, chosen, terms)
        started = time.process_time()
        for question, vector in questions.items():
            store.search(question, vector, [chosen], CANDIDATES)
        search = 1000 * (time.process_time() - started) / len(questions)
        figures = (cpu, again, search, quantile(times, 0.5), quantile(times, 0.95))
        print(f"{label:>35}" + "".join(f"{figure:>15.2f}" for figure in figures))


def retrieve(
    store: VectorStore, questions: dict[str, list[float]], chosen: SearchFilter, terms: TermExtractor
) -> tuple[float, list[float]]:
    """Retrieve for questions with these vectors; return the mean CPU and the sorted times, in milliseconds."""
    retriever = Retriever(store, terms, embedder=KnownVectors(questions))

    async def run() -> list[float]:
        times = []
        for question in questions:
            started = time.perf_counter()
            await retriever.retrieve(Query(query=question), chosen)
            times.append(1000 * (time.perf_counter() - started))
        return sorted(times)

    started = time.process_time()
    times = asyncio.run(run())
    return 1000 * (time.process_time() - started) / len(questions), times


class KnownVectors:
    """Returns the vectors of known questions."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    async def embed_query(self, text: str) -> list[float]:
        return self._vectors[text]


class RandomVectors:
    """Vectors without meaning, which cost little to make: each is a part of one long list of numbers."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._numbers = [self._random.gauss(0, 1) for _ in range(100 * DIMENSIONS)]

    def vector(self) -> list[float]:
        start = self._random.randrange(99 * DIMENSIONS)
        return self._numbers[start : start + DIMENSIONS]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vector() for _ in texts]

    def embed_query(self, _text: str) -> list[float]:
        return self.vector()


class Words:
    """Text of made-up words with the frequencies of a language: the n-th word has frequency 1/n (Zipf)."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._random = random.Random(11)
        letters = "bdfgklmnprstv"
        vowels = "aeiou"
        self._words = [
            "".join(self._random.choice(letters) + self._random.choice(vowels) for _ in range(4))
            for _ in range(VOCABULARY)
        ]
        self._weights = list(accumulate(1 / n for n in range(1, VOCABULARY + 1)))

    def words(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def question(self) -> str:
        return " ".join(self.words(8))

    def text(self) -> str:
        """Return a chunk's text: sentences, each with a space behind it."""
        words = self.words(CHUNK_WORDS)
        sentences = [" ".join(words[at : at + SENTENCE_WORDS]) for at in range(0, CHUNK_WORDS, SENTENCE_WORDS)]
        return "".join(f"{sentence.capitalize()}. " for sentence in sentences)

    def chunks(self, count: int) -> Iterator[Chunk]:
        """Yield chunks of uploads of UPLOAD_CHUNKS each, PAGE_CHUNKS to a page."""
        for n in range(count):
            upload, index = divmod(n, UPLOAD_CHUNKS)
            page, place = divmod(index, PAGE_CHUNKS)
            if place == 0:
                texts = [self.text() for _ in range(PAGE_CHUNKS)]
            start = sum(map(len, texts[:place]))
            yield Chunk(
                id=chunk_id(f"u{upload}", index, self.model),
                upload_id=f"u{upload}",
                user_id="local",
                name=f"report {upload}.pdf",
                index=index,
                page=page + 1,
                page_label=str(page + 1),
                start=start,
                end=start + len(texts[place]),
                text=texts[place],
                page_text="".join(texts) if place == 0 else "",
                opening="".join(texts) if index == 0 else "",
            )


if __name__ == "__main__":
    main()
