"""What an answer costs beside the model: `make bench-citations`.

CPU of the prompt, the citation check and the search for links, for answers of 1 to 8 cited sentences over six passages
of about 250 tokens. `bare` marks give a number, `quoting` marks also words of the source. Each answer is about other
passages, so no cache helps; `again` is the check of the same answers once more. `AGAINST=COMMIT` runs the benchmark of
that commit first.

Measured on 2 cores that others used too, 1 / 4 / 6 / 8 sentences: bare 2.0 / 4.2 / 5.6 / 5.4 ms, quoting 0.6 / 1.8 /
2.4 / 3.2 ms.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from statistics import mean

from bench.questions.corpus import Section, make_corpus
from client.qdrant.bm25 import Bm25Encoder
from rag.answer.fence import Fence
from rag.answer.links import find_links
from rag.answer.pipeline import check_answer
from rag.answer.prompt import user_prompt
from rag.text.normalize import estimate_tokens
from schemas import Chunk, Passage

SENTENCES = (1, 4, 6, 8)
PASSAGES = 6
PASSAGE_SENTENCES = 7
QUOTED_WORDS = 5
ANSWERS = 40

Question = tuple[str, str, list[Passage]]


def main() -> None:
    """Print one line for each length of an answer."""
    parser = argparse.ArgumentParser(description="CPU of the citation check")
    parser.add_argument("--against", metavar="COMMIT", help="run the benchmark of this commit first")
    if commit := parser.parse_args().against:
        run_commit(commit)
    terms = Bm25Encoder().terms

    def check(question: str, answer: str, passages: list[Passage]) -> int:
        return len(check_answer(question, answer, passages, terms).sources)

    print(f"CPU ms an answer, mean of {ANSWERS}, {PASSAGES} passages each")
    columns = ("sentences", "tokens", "a passage", "prompt", "bare", "again", "quoting", "again", "links", "cited")
    print("".join(f"{name:>11}" for name in columns))
    for count in SENTENCES:
        *made, first = islice(questions(count), ANSWERS + 1)
        *quoting, _ = islice(questions(count, quoting=True, seed=100), ANSWERS + 1)
        check(*first)  # imports and first use
        passages = [passage for *_, found in made for passage in found]
        prompt, _ = measure(made, lambda question, _, found: len(user_prompt(question, found, Fence())))
        checked, cited = measure(made, check)
        again, _ = measure(made, check)
        quoted, quoted_cited = measure(quoting, check)
        quoted_again, _ = measure(quoting, check)
        links, _ = measure(made, lambda _, answer, found: len(find_links(answer, found)))
        tokens = mean(estimate_tokens(answer) for _, answer, _ in made)
        size = mean(estimate_tokens(passage.chunk.text) for passage in passages)
        figures = (prompt, checked, again, quoted, quoted_again, links, mean(cited + quoted_cited))
        print(f"{count:>11}{tokens:>11.0f}{size:>11.0f}" + "".join(f"{figure:>11.2f}" for figure in figures))


def measure(made: list[Question], call: Callable[[str, str, list[Passage]], int]) -> tuple[float, list[int]]:
    """Return the CPU milliseconds of a call, the mean over all questions, and what each call returned."""
    started = time.process_time()
    returned = [call(*one) for one in made]
    return 1000 * (time.process_time() - started) / len(made), returned


def run_commit(commit: str) -> None:
    """Run the benchmark of another commit."""
    git = shutil.which("git") or sys.exit("git is not installed")
    with tempfile.TemporaryDirectory() as folder:
        tree = subprocess.run([git, "archive", commit], check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(tree)) as archive:
            archive.extractall(folder, filter="data")
        print(f"at {commit}:", flush=True)
        subprocess.run([sys.executable, "-m", "bench.citations"], check=True, cwd=folder)
        print("now:")


def questions(count: int, *, quoting: bool = False, seed: int = 0) -> Iterator[Question]:
    """Yield questions with answers of `count` sentences and their passages; each row of the table has its own text."""
    draw = random.Random(seed + count)
    sections = list(chain.from_iterable(make_corpus(seed=seed + count)))
    draw.shuffle(sections)
    for start in range(0, len(sections), PASSAGES):
        group = sections[start : start + PASSAGES]
        passages = [make_passage(n, section) for n, section in enumerate(group)]
        cited = [(n % PASSAGES, n // PASSAGES) for n in range(count)]
        answer = " ".join(
            f"{reword(draw, sentence)} [{n + 1}{quote(draw, sentence) if quoting else ''}]."
            for n, sentence in ((n, group[n].sentences[at]) for n, at in cited)
        )
        yield f"What is known about the {group[0].subject} of {group[0].place}?", answer, passages


def reword(draw: random.Random, sentence: str) -> str:
    """Return a sentence without its full stop and without one of its words, as a model may shorten a sentence."""
    words = sentence.rstrip(".").split()
    del words[draw.randrange(1, len(words))]
    return " ".join(words)


def quote(draw: random.Random, sentence: str) -> str:
    """Return five words of a sentence as a mark quotes them."""
    words = sentence.rstrip(".").split()
    start = draw.randrange(len(words) - QUOTED_WORDS)
    return f' "{" ".join(words[start : start + QUOTED_WORDS])}"'


def make_passage(n: int, section: Section) -> Passage:
    """Return the first sentences of a section as a passage, broken into lines as a PDF's text is."""
    text = " ".join(section.sentences[:PASSAGE_SENTENCES]).replace(" the ", "\nthe ")
    chunk = Chunk(
        id=f"c{n}",
        upload_id=f"u{n}",
        user_id="local",
        name=f"survey {n}.pdf",
        index=n,
        page=n + 1,
        page_label=str(n + 1),
        start=0,
        end=len(text),
        text=text,
        section=section.heading,
    )
    return Passage(chunk=chunk, score=0.9)


if __name__ == "__main__":
    main()
