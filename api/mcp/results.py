"""What tools return: for programs as JSON, for models as text, and links to the pages that an answer stands on."""

from __future__ import annotations

import json
from typing import Any, Literal

from mcp_types import CallToolResult, ContentBlock, ResourceLink, TextContent
from pydantic import BaseModel, Field

from api.citation_links import title_of
from api.mcp.calls import Call
from api.middleware.auth import public_url
from schemas import Answer, JobStatus, JobView, Source

Status = Literal["queued", "started", "finished", "failed", "cancelled"]


class SourceView(BaseModel):
    """A passage that an answer stands on."""

    n: int = Field(description="The number by which the text cites it, as in [1].")
    uri: str = Field(description="The page, as a resource.")
    document: str
    upload_id: str
    page: int
    page_label: str = Field(description="Number printed on the page, or the section and lines of a text file.")
    quote: str = Field(description="Exact text of the page.")
    score: float


class AnswerView(BaseModel):
    """The state of a question, and its answer once it has ended."""

    job_id: str
    status: Status
    text: str | None = Field(None, description="The answer; it cites its sources as [1].")
    answered: bool | None = Field(None, description="False if the documents do not answer the question.")
    sources: list[SourceView] = []
    error: str | None = Field(None, description="Why there is no answer.")


class PassageView(BaseModel):
    """A passage that a search found."""

    id: str = Field(description="What `fetch` takes to return the whole page.")
    title: str
    url: str = Field(description="Where the file can be downloaded.")
    text: str = Field(description="Exact text of the page.")
    document: str
    upload_id: str
    page: int
    score: float


class SearchView(BaseModel):
    """The passages that were found, best first."""

    results: list[PassageView]


class PageView(BaseModel):
    """The text of a page."""

    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, str | int]


def page_uri(upload_id: str, page: int) -> str:
    """Return the address of a page as a resource."""
    return f"rag://uploads/{upload_id}/pages/{page}"


def file_url(call: Call, upload_id: str, page: int) -> str:
    """Return where the file of a document can be downloaded, with a key."""
    return public_url(call.request.scope, f"/uploads/{upload_id}/file#page={page}")


def structured(view: BaseModel, text: str | None = None, *, links: list[ContentBlock] | None = None) -> CallToolResult:
    """Return the result of a tool. `text`: for the model; None: the same JSON."""
    data = view.model_dump(mode="json", exclude_none=True)
    shown = json.dumps(data, ensure_ascii=False) if text is None else text
    return CallToolResult(content=[TextContent(text=shown), *(links or [])], structured_content=data)


def failed(message: str) -> CallToolResult:
    """Return the result of a tool that could not do what it was asked."""
    return CallToolResult(content=[TextContent(text=message)], is_error=True)


def answer_result(job: JobView) -> CallToolResult:
    """Return the result for a question as it is now."""
    view = AnswerView(job_id=job.job_id, status=job.status.value)
    if job.status is JobStatus.FINISHED:
        answer = Answer.model_validate(job.result)
        view.text, view.answered = answer.text, answer.answered
        view.sources = [_source_view(source) for source in answer.sources]
        listed = [f"[{source.n}] {title_of(source)}: “{source.quote}”" for source in answer.sources]
        return structured(view, "\n\n".join([answer.text, *listed]), links=[_link(source) for source in answer.sources])
    if job.failure is not None:
        view.error = job.failure.detail
        return structured(view, job.failure.detail).model_copy(update={"is_error": True})
    text = f"The answer is not there yet: the question is {job.status}. Call get_answer with job_id {job.job_id}."
    return structured(view, text)


def _source_view(source: Source) -> SourceView:
    return SourceView(
        n=source.n,
        uri=page_uri(source.upload_id, source.page),
        document=source.name,
        upload_id=source.upload_id,
        page=source.page,
        page_label=source.page_label,
        quote=source.quote,
        score=source.score,
    )


def _link(source: Source) -> ContentBlock:
    return ResourceLink(
        uri=page_uri(source.upload_id, source.page),
        name=f"{source.name}#{source.page}",
        title=title_of(source),
        description=source.quote,
        mime_type="text/plain",
    )


def passages_result(call: Call, answer: Answer) -> CallToolResult:
    """Return the passages of a search."""
    found = [
        PassageView(
            id=page_uri(source.upload_id, source.page),
            title=title_of(source),
            url=file_url(call, source.upload_id, source.page),
            text=source.quote,
            document=source.name,
            upload_id=source.upload_id,
            page=source.page,
            score=source.score,
        )
        for source in answer.sources
    ]
    return structured(SearchView(results=found))


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model."""
    return model.model_json_schema()
