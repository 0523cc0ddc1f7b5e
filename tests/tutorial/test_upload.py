"""Upload a document, follow it until it is ready, ask about it alone, and delete it."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.openai_stub import Behaviour
from tests.support.processes import wait_until


def test_upload(client: httpx.Client, lighthouse_pdf: Path) -> None:
    # Send the file as a form, as a browser does. The answer has two ids: of the upload, which lasts until it is
    # deleted, and of the job that reads the file, splits it into chunks, embeds the chunks and stores them.
    response = client.post("/uploads", files={"file": (lighthouse_pdf.name, lighthouse_pdf.read_bytes())})
    assert response.status_code == 202
    upload = response.json()
    upload_id, job_id = upload["upload_id"], upload["job_id"]

    # An upload's job is a job like any other: wait for its end in the same way.
    client.get(f"/result/{job_id}", params={"wait": 30})

    # `status` is queued, processing, ready or failed. A failed upload has a `reason` such as encrypted or no_text.
    state = client.get(f"/uploads/{upload_id}").json()
    assert state["status"] == "ready"
    assert state["pages"] == 2

    # With `upload_id` only this document is searched. Without it, all documents of the user are.
    question = {"query": "When was the lighthouse built?", "upload_id": upload_id}
    job_id = client.post("/chat", json=question).json()["job_id"]
    answer = client.get(f"/result/{job_id}", params={"wait": 30}).json()
    assert "1887" in answer["result"]
    assert [source["upload_id"] for source in answer["sources"]] == [upload_id]

    # The same file again is a duplicate: nothing is stored twice, and the first upload's id comes back.
    again = client.post("/uploads", files={"file": (lighthouse_pdf.name, lighthouse_pdf.read_bytes())}).json()
    assert again["duplicate"]
    assert again["upload_id"] == upload_id

    # Deleting takes the document out of every answer at once. A worker then removes its chunks, file and record.
    assert client.delete(f"/uploads/{upload_id}").status_code == 202
    wait_until(lambda: client.get(f"/uploads/{upload_id}").status_code == 404)


def test_ask_before_the_upload_is_ready(client: httpx.Client, lighthouse_pdf: Path) -> None:
    # `after_upload` makes the question wait for the upload: no need to poll in between.
    upload_id = client.post("/uploads", files={"file": (lighthouse_pdf.name, lighthouse_pdf.read_bytes())}).json()[
        "upload_id"
    ]
    question = {"query": "How far is the lamp seen?", "upload_id": upload_id, "after_upload": True}
    job_id = client.post("/chat", json=question).json()["job_id"]
    answer = client.get(f"/result/{job_id}", params={"wait": 30}).json()
    assert "21 nautical miles" in answer["result"]
    assert answer["sources"][0]["page"] == 2
    client.delete(f"/uploads/{upload_id}")


def test_a_text_file_is_cited_by_section_and_lines(client: httpx.Client, model: Behaviour) -> None:
    # A text or Markdown file has no pages. Its sources say under which heading and on which lines the quote stands.
    winter = "## Winter storage\n\nBoats longer than nine metres\nare kept in shed 4.\n"
    notes = f"# Pier\n\nWho moors here pays nothing.\n\n{winter}"
    upload = client.post("/uploads", files={"file": ("pier.md", notes.encode())}).json()
    client.get(f"/result/{upload['job_id']}", params={"wait": 30})

    model.answer = "They are kept in shed 4 [1]."
    question = {"query": "Where are boats longer than nine metres kept?", "upload_id": upload["upload_id"]}
    job = client.post("/chat", json=question).json()
    [source] = client.get(f"/result/{job['job_id']}", params={"wait": 30}).json()["sources"]
    assert source["quote"] == "Boats longer than nine metres are kept in shed 4."
    assert source["section"] == "Winter storage"
    assert source["page_label"] == "Section Winter storage, lines 7–8"
    assert source["lines"] == [7, 8]
    client.delete(f"/uploads/{upload['upload_id']}").raise_for_status()
