"""A short run of `make bench-model-change`: changes of the embedding model under questions, kills and a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.model_change import Plan, run


@pytest.mark.timeout(300)
def test_no_question_fails_or_finds_nothing_while_the_model_is_changed(tmp_path: Path) -> None:
    plan = Plan(documents=5, pages=1, questions_per_second=2, kills=1, models=("stub-a", "stub-b"))
    report = run(plan, tmp_path)
    assert (report.failed, report.wrong) == ([], [])
    assert report.asked > 10
    assert {"words alone", "stub-a"} <= report.models_used, "by the old index and the new ones"
    assert "EMBEDDING_MODEL" in report.refusal
    assert report.build_seconds.keys() == {"stub-a", "stub-b"}
