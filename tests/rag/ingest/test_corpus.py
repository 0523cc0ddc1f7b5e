"""Each file of the corpus gives the text that it must give and no other, or the reason why it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import DocumentError
from rag.ingest.extraction import close_readers
from rag.ingest.indexing import _Noted
from schemas import Page, PageWarning
from tests.support.corpus.reading import KINDS, check, expected, read, table_of
from tests.support.processes import ROOT


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_corpus_give_their_text(kind: str, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for sample in KINDS[kind]:
        with subtests.test(sample.name):
            check(sample, *read(sample, tmp_path / "file"))


def test_the_page_of_uploads_has_the_table_of_the_corpus() -> None:
    assert table_of(expected) in (ROOT / "docs" / "uploads.md").read_text()


def test_names_are_unique() -> None:
    names = [sample.name for samples in KINDS.values() for sample in samples]
    assert len(set(names)) == len(names)


def test_a_file_of_mostly_unreadable_pages_fails_and_a_few_are_warned_of() -> None:
    """Nothing of an unreadable page is stored."""
    good, bad = Page(number=1, label="1", text="Words."), Page(number=2, label="2", text="", warning="unreadable_text")
    noted = _Noted([good, bad])
    assert list(noted) == [good, bad]
    noted.check_readable()
    assert noted.warnings == [PageWarning(page=2, reason="unreadable_text")]
    noted = _Noted([good, bad, bad.model_copy(update={"number": 3})])
    list(noted)
    with pytest.raises(DocumentError) as caught:
        noted.check_readable()
    assert caught.value.reason == "unreadable_text"
