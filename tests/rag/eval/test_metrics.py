"""The figures of an evaluation, and a floor for the figures on the sample document."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cli import evaluate
from errors import InvalidRequest
from main import main
from rag.eval.metrics import Outcome, Question, Summary, quantile, read_questions, summarise
from rag.eval.report import html_report
from schemas import Answer, Source
from tests.conftest import MakeSettings
from tests.support.processes import ROOT
from tests.support.tables import each

QUESTIONS = ROOT / "samples" / "handbook.questions.jsonl"
HANDBOOK = ROOT / "samples" / "handbook.pdf"


def source(page: int, name: str = "a.pdf") -> Source:
    return Source(n=1, upload_id="u", name=name, page=page, page_label="1", quote="q", score=1.0)


def outcome(question: Question, *pages: int, answer: Answer | None = None, seconds: float = 1.0) -> Outcome:
    named_pages = tuple(("a.pdf", page) for page in pages)
    return Outcome(question=question, pages=named_pages, answer=answer or Answer(text="Yes."), seconds=seconds)


def summary_of_five_outcomes() -> Summary:
    asked = Question(question="?", upload="a.pdf", pages=(3,), answer="yes")
    elsewhere = Question(question="?", upload="b.pdf", pages=(3,))
    nowhere = Question(question="<script>?", answer="unanswerable")
    outcomes = [
        outcome(asked, 3, 1, answer=Answer(text="So: yes!", sources=(source(3), source(4)), times={"search": 0.5})),
        outcome(asked, 1, 2, 4, 3, answer=Answer(text="No.", answered=False, unsupported=2), seconds=3.0),
        outcome(elsewhere, 3),
        outcome(nowhere, answer=Answer(text="Nothing.", answered=False)),
        outcome(nowhere, seconds=2.0),
    ]
    html = html_report("T", summarise(outcomes), outcomes)
    assert "<script>?" not in html
    assert "<svg" in html
    return summarise(outcomes)


def test_each_figure_counts_what_its_name_says() -> None:
    summary = summary_of_five_outcomes()
    assert (summary.questions, summary.answerable) == (5, 3)
    assert summary.hit == {1: 1 / 3, 3: 1 / 3, 5: 2 / 3, 10: 2 / 3}
    assert summary.mrr == pytest.approx((1 + 1 / 4 + 0) / 3)
    assert summary.citation_precision == 0.5
    assert summary.cited_right_page == pytest.approx(1 / 3)
    assert summary.contains_expected == 0.5
    assert summary.refused == 0.5
    assert summary.wrongly_refused == pytest.approx(1 / 3)
    assert summary.unsupported == 2
    assert (summary.p50, summary.p95) == (1.0, 3.0)
    assert summary.stages == {"search": 0.5}


def test_the_usual_field_names_are_read() -> None:
    lines = ['{"question": "a", "pdf": "x.pdf", "gold_pages": [1, 2], "type": "more"}', "", '{"query": "b", "page": 7}']
    first, second = read_questions(lines)
    assert (first.upload, first.pages, first.answerable) == ("x.pdf", (1, 2), True)
    assert (second.question, second.pages) == ("b", (7,))


@each("line", ["no json", '{"pages": [1]}', '{"question": "a", "pages": ["x"]}', "[]"])
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        read_questions(['{"question": "a"}', line])


def test_a_quantile_is_a_measured_value() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == 2
    assert quantile([1, 2, 3, 4], 0.95) == 4
    assert quantile([7], 0) == 7


def test_answers_on_the_sample_document_stay_above_the_floor(make_settings: MakeSettings) -> None:
    """Search by words alone cannot answer every question: many use other words than the document."""
    with evaluate.temporary_services(make_settings(), [HANDBOOK]) as services:
        questions = read_questions(QUESTIONS.read_text().splitlines())
        summary = summarise(asyncio.run(evaluate.run(questions, services, k=6)))
    assert summary.questions >= 190
    assert summary.hit[1] is not None
    assert summary.hit[1] >= 0.78
    assert summary.hit[3] is not None
    assert summary.hit[3] >= 0.9
    assert summary.citation_precision is not None
    assert summary.citation_precision >= 0.6
    assert summary.contains_expected is not None
    assert summary.contains_expected >= 0.68
    assert summary.refused is not None
    assert summary.refused >= 0.5
    assert summary.wrongly_refused is not None
    assert summary.wrongly_refused <= 0.08


def test_documents_of_every_kind_are_indexed_and_other_files_are_named(
    make_settings: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "lamp.md").write_text("# The lamp\n\nThe lamp turns once in twelve seconds.")
    (folder / "tower.html").write_text("<html><script>x()</script><p>The tower is 40 metres high.</p>")
    (folder / "image.bin").write_bytes(b"\x00")
    questions = [
        Question(question="How high is the tower?", upload="tower.html", pages=(1,)),
        Question(question="How often does the lamp turn?", upload="lamp.md", pages=(1,)),
    ]
    paths = [folder, tmp_path / "missing.pdf"]
    with evaluate.temporary_services(make_settings(), paths, quoting=True) as services:
        outcomes = asyncio.run(evaluate.run(questions, services, k=6, within=True))
    assert [outcome.rank for outcome in outcomes] == [1, 1]
    assert "x()" not in outcomes[0].answer.text
    errors = capsys.readouterr().err
    assert "1 skipped: image.bin (not a document)" in errors
    assert "missing.pdf: there is no such file" in errors


def test_the_command_prints_figures_and_writes_a_report(
    make_settings: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_settings()
    report = tmp_path / "report.html"
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(QUESTIONS.read_text().splitlines()[:3]))
    arguments = ["eval", str(few), "--index", str(HANDBOOK), "--report", str(report), "--within"]
    assert main([*arguments, "--floor", "0.9"]) == 0
    assert "page hit@5" in capsys.readouterr().out
    assert "</html>" in report.read_text()
    few.write_text(json.dumps({"question": "Who?", "upload": "handbook.pdf", "pages": [99]}))
    assert main([*arguments, "--floor", "0.9"]) == 1
    assert main(["eval", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    arguments[arguments.index(str(report))] = str(tmp_path / "none" / "report.html")
    assert main(arguments) == 2
    assert "report.html: cannot be written: No such file or directory" in capsys.readouterr().err
