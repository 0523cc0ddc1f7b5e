"""Every kind of question gets an answer, whether one document is searched or more than are looked at one by one."""

from __future__ import annotations

import httpx
import pytest

from rag.search.names import MAX_NAMED
from settings import Settings
from tests.api.test_uploads import uploaded
from tests.support.workers import work

COMPANIES = ("Arden", "Brindle", "Corvane", "Delmor", "Estuary", "Fallow", "Granite")
QUESTIONS = {
    "a figure of a statement": "What was the total revenue in 2021?",
    "a figure of one document": "What was the total revenue of Corvane in 2021?",
    "two documents": "Was the net income of Arden or of Brindle higher in 2021?",
    "more documents than are searched one by one": f"Compare the total assets of {', '.join(COMPANIES)} in 2021.",
    "a place": "What does page 1 say about the total assets?",
    "a title": "What do the consolidated balance sheets say?",
    "the first page": "What is the title of the document, and who is its author?",
    "nothing known": "Which colour has the submarine?",
    "a form": "What was the operating income in 2021? Answer with an integer.",
}


def report(company: str, number: int) -> bytes:
    """Return a report of a company as text. Its total revenue is 1,000 and `number`."""
    return f"""{company} annual report

Consolidated statements of income

The total revenue of {company} in 2021 was {1_000 + number} million, and its net income {number + 7} million.

Consolidated balance sheets

The total assets of {company} in 2021 were {9_000 + number} million, and its operating income {20 + number} million.
""".encode()


@pytest.mark.parametrize("count", [1, MAX_NAMED, len(COMPANIES)])
def test_each_kind_of_question_is_answered(count: int, api: httpx.Client, settings: Settings) -> None:
    for number, company in enumerate(COMPANIES[:count]):
        uploaded(api, (f"{company}.txt", report(company, number)))
    work(settings)
    jobs = {kind: api.post("/chat", json={"query": query}).json()["job_id"] for kind, query in QUESTIONS.items()}
    work(settings)
    assert {kind: api.get(f"/job-status/{job}").json()["status"] for kind, job in jobs.items()} == dict.fromkeys(
        QUESTIONS, "finished"
    )
    figure = api.get(f"/result/{jobs['a figure of a statement']}").json()
    assert "The total revenue of" in figure["result"]


def test_a_named_document_comes_first_among_many(api: httpx.Client, settings: Settings) -> None:
    for number, company in enumerate(COMPANIES):
        uploaded(api, (f"{company}.txt", report(company, number)))
    work(settings)
    job = api.post("/chat", json={"query": QUESTIONS["a figure of one document"]}).json()["job_id"]
    work(settings)
    found = api.get(f"/result/{job}").json()
    assert found["sources"][0]["name"] == "Corvane.txt"
    assert "1002 million" in found["sources"][0]["quote"]
