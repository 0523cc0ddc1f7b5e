"""Ask a question, and read the answer with the page that supports it.

The API never waits for a model. POST /chat puts a job on a queue and answers at once with the job's id. A worker takes
the job, searches the documents, asks the model and stores the answer. GET /result/{job_id} returns the answer.
"""

from __future__ import annotations

import httpx
import pytest

from tests.support.openai_stub import Behaviour


@pytest.mark.usefixtures("handbook_id")
def test_ask(client: httpx.Client, model: Behaviour) -> None:
    # What the model will write. It is given the passages found, numbered from 1, and cites them by number.
    model.answer = "A full charge takes three hours and twenty minutes [1]."

    # Ask. 202 Accepted: the job is on disk and will be done, whatever process dies from now on.
    response = client.post("/chat", json={"query": "How long does a full charge take?"})
    assert response.status_code == 202
    job = response.json()
    assert job["status"] == "queued"
    job_id = job["job_id"]

    # Read the result. `wait` holds the request until the job ends, here 30 seconds at most.
    # Without it, or when the time is up, a job that has not ended is a 202; call again after `Retry-After` seconds.
    response = client.get(f"/result/{job_id}", params={"wait": 30})
    assert response.status_code == 200
    answer = response.json()
    assert answer["status"] == "completed"
    assert answer["answered"]  # the documents do say it

    # [1] in the text cites the first of the sources.
    assert answer["result"] == "A full charge takes three hours and twenty minutes [1]."
    source = answer["sources"][0]
    assert source["n"] == 1
    assert source["name"] == "handbook.pdf"
    assert source["page"] == 4  # the fourth page of the file …
    assert source["page_label"] == "2"  # … which has the number 2 printed on it

    # A quote is an exact substring of the page's text, line breaks included.
    assert " ".join(source["quote"].split()) == "A full charge takes three hours and twenty minutes."


def test_an_unknown_job_is_a_problem_document(client: httpx.Client) -> None:
    # Every failure, from 400 to 503, has the same shape: RFC 9457.
    response = client.get("/result/no-such-job")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 404
