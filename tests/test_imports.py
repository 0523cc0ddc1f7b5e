"""What an import costs."""

from __future__ import annotations

import subprocess

from tests.support.processes import PYTHON, ROOT


def test_importing_queues_imports_no_worker() -> None:
    look = "import queues, sys; print(sorted({'rq', 'redis', 'openai'} & set(sys.modules)), queues.RagWorker.__name__)"
    done = subprocess.run([PYTHON, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] RagWorker\n"


def test_a_question_imports_no_sdk() -> None:
    names = "client.llm.completions, client.llm.query_embeddings, client.llm.rerank, client.llm.chat"
    look = f"import {names}, sys; print(sorted({{'openai', 'langchain_core', 'httpx', 'httpx2'}} & set(sys.modules)))"
    done = subprocess.run([PYTHON, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
