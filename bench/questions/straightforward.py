"""What a user would write first: LangChain, Qdrant and OpenAI in one function, called by threads.

`python -m bench.questions.straightforward MODEL THREADS` answers questions until it is killed. It has no queue, no
record of a job, no events, no hybrid search, no reranking, no neighbours, no owners of documents, no deadline, and no
check of its citations.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from itertools import chain

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_qdrant import QdrantVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from redis import Redis

from bench.questions import corpus
from bench.questions.closed_loop import COUNTS

PASSAGES = 6
CHUNK_CHARS = 900
SYSTEM = (
    "Answer the question from the sources alone. After each claim cite its source by its number, like [1]. Be brief."
)


class Answerer:
    """The function, with its clients."""

    def __init__(self, model: str) -> None:
        texts = corpus.make_corpus()
        self.questions = corpus.questions(texts)
        split = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARS, chunk_overlap=100).split_text
        self._embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
        self._store = QdrantVectorStore.from_texts(
            list(chain.from_iterable(split(section.text) for section in chain.from_iterable(texts))),
            self._embeddings,
            location=":memory:",
            collection_name="corpus",
        )
        self._chat = ChatOpenAI(model=model)
        self._lock = threading.Lock()  # qdrant-client's local mode is not safe for threads

    def answer(self, question: str) -> str:
        """Return the model's answer, as it came."""
        vector = self._embeddings.embed_query(question)
        with self._lock:
            found = self._store.similarity_search_by_vector(vector, k=PASSAGES)
        sources = "\n\n".join(
            f'<source n="{n}">\n\n{document.page_content}\n</source>' for n, document in enumerate(found, start=1)
        )
        messages = [("system", SYSTEM), ("user", f"{sources}\n\n{question}")]
        return "".join(self._tokens(messages))

    def _tokens(self, messages: list[tuple[str, str]]) -> Iterator[str]:
        for chunk in self._chat.stream(messages):
            yield str(chunk.text)


def main() -> None:
    answerer = Answerer(sys.argv[1])
    valkey, lock = Redis.from_url(os.environ["VALKEY_URL"]), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                question = next(answerer.questions)
            cited = len(re.findall(r"\[\d", answerer.answer(question)))
            valkey.hincrby(COUNTS, "sources", cited)
            valkey.hincrby(COUNTS, "answers", 1)

    threads = [threading.Thread(target=work) for _ in range(int(sys.argv[2]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
