"""The documents that `make bench-retrieval` makes, and their questions."""

from __future__ import annotations

from bench.made_documents import made_sets


def test_each_question_has_a_page_and_no_other_question_is_the_same() -> None:
    for documents, questions in made_sets().values():
        pages = {document.name: len(texts) for document, texts in documents}
        assert len({question.question for question in questions}) == len(questions)
        for question in questions:
            assert all(1 <= page <= pages[question.upload or ""] for page in question.pages)
