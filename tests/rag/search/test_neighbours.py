"""What is joined to the best chunk of a page: all that touches it, as long as there is room."""

from __future__ import annotations

from itertools import pairwise

from rag.search.neighbours import MAX_FETCHES, join_neighbours
from schemas import Chunk, Passage, Place


def chunk(number: int, *, table: bool = False) -> Chunk:
    """Return chunk `number` of a page: 40 characters, after those of the chunks before it."""
    text = f"{'row' if table else 'line'} {number} ".ljust(40, "x")
    places = (Place(at=0, start=40 * number, original=text),) if table else ()
    return Chunk(
        id=str(number), upload_id="u", user_id="local", name="a.pdf", page=1, page_label="1", section="", index=number,
        start=40 * number, end=40 * number + 40, text=text, places=places,
    )  # fmt: skip


def joined(chunks: list[Chunk], ranked: list[int], *, token_budget: int = 1_000) -> Chunk:
    """Join what is fetched of `chunks`, which are those of a page, to the best of those ranked."""

    def fetch(wanted: list[Chunk]) -> list[Chunk]:
        indices = {one.index + step for one in wanted for step in (-1, 1)}
        return [one for one in chunks if one.index in indices]

    [passage] = join_neighbours([Passage(chunks[n], 1.0) for n in ranked], fetch, k=3, token_budget=token_budget)
    return passage.chunk


def test_two_ranked_chunks_are_joined_by_what_lies_between_them() -> None:
    whole = joined([chunk(n) for n in range(8)], [5, 3])
    assert (whole.start, whole.end) == (3 * 40, 7 * 40)
    assert all(f"line {n} " in whole.text for n in (3, 4, 5, 6))


def test_a_table_is_read_further_than_prose() -> None:
    prose = joined([chunk(n) for n in range(9)], [4])
    table = joined([chunk(n, table=True) for n in range(9)], [4])
    assert (prose.start, prose.end) == (3 * 40, 6 * 40)
    rows = [table.text.index(f"row {n} ") for n in range(1, 8)]
    assert all(before < after for before, after in pairwise(rows))


def test_nothing_is_joined_beyond_the_budget() -> None:
    table = joined([chunk(n, table=True) for n in range(9)], [4], token_budget=60)
    assert 40 < len(table.text) < 9 * 40


def test_what_is_joined_to_a_table_is_joined_once() -> None:
    prose = [chunk(0).model_copy(update={"text": "line 0 ".ljust(40)}), chunk(1)]
    whole = joined([*prose, *(chunk(n, table=True) for n in range(2, 9))], [2, 0])
    assert [whole.text.count(f"{'line' if n < 2 else 'row'} {n}") for n in range(5)] == [1] * 5


def test_neighbours_are_fetched_a_few_times_each() -> None:
    chunks = [chunk(n, table=True) for n in range(20)]
    fetches: list[list[int]] = []

    def fetch(wanted: list[Chunk]) -> list[Chunk]:
        fetches.append([one.index for one in wanted])
        return [chunks[one.index + step] for one in wanted for step in (-1, 1)]

    join_neighbours([Passage(chunks[9], 1.0)], fetch, k=3, token_budget=1_000)
    assert [sorted(fetch) for fetch in fetches] == [[9], [8, 10], [7, 11]]
    assert len(fetches) == MAX_FETCHES
