"""The commands and scripts of README.md and docs/, run as they stand.

Each command and script is run by a test here, or listed in NOT_RUN with the reason.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.job import JobStatus as RqStatus
from rq.registry import FailedJobRegistry

from client.rq.serializer import PlainSerializer
from tests.cli.test_main import Service, service
from tests.support.documents import Snippet, all_snippets
from tests.support.processes import PYTHON, ROOT, Fresh, environment, free_port, running, wait_until

BIN = Path(PYTHON).parent
COMMANDS = all_snippets("sh")
SCRIPTS = all_snippets("python")

# Pattern of a command or script → why no test of this module runs it.
NOT_RUN = {
    r"make (run|test)": "recursive; make runs `python main.py` and pytest, as these tests do",
    r"make telemetry|export OTEL_": "sends traces; run by tests/observability/test_tracing.py",
    r"echo .* >> \.env": "writes .env",
    r"(DOCUMENTS=/path )?docker compose": "needs Docker; tests/deploy/test_compose.py reads the files",
    r"useradd|install -|systemctl": "change the machine; tests/deploy/test_systemd.py reads the units",
    r"\.venv/bin/python main\.py restore": "the service must not run; run by tests/cli/test_backup.py",
    r"kubectl |helm install|--from-literal=|--set settings": "needs a cluster; run by tests/deploy/test_chart.py",
    r"sh deploy/certificates\.sh": "run by tests/deploy/test_tls.py",
    r"curl --json .*https://example\.com": "resolves a name; sent by tests/webhooks/test_webhooks.py",
    r"import os\n\nfrom langchain|from qdrant_client|retriever = |from langchain_core": "need a Qdrant server; run by "
    "tests/docs/test_langchain.py on qdrant-client's local mode",
    r"from http\.server": "run by tests/webhooks/test_webhooks.py",
    r"import asyncio\n\nfrom mcp": "run by tests/api/mcp/test_tools.py",
    r"ragq |uv tool install|from ragq": "run by tests/ragq/test_documents.py and tests/ragq/test_install.py",
    r"from openai|from langchain_openai|from agents|import litellm|llm ": "run by "
    "tests/api/v1/test_client_documents.py",
}
# Pattern of a curl command → what its response holds.
RESPONSES = {
    r"/job-status/": '"status":"finished"',
    r"/result/": '"status":"completed"',
    r"/events": "event: finished",
    r"-X DELETE .*/jobs/": '"status":"finished"',  # it had ended already
    r"/jobs\?": '"jobs":[{"job_id"',
    r"/chat/batch": '"job_ids":["',
    r"/batches/\S+/results": '"result"',
    r"/batches/": '"finished":2',
    r":8000/chat": '"status":"queued"',
    r"-F file": '"upload_id":"',
    r"/uploads\?": '"uploads":[{"upload_id"',
    r"/file": "a file of the tests",
    r"/uploads/reindex": '"job_id":"',
    r"/reindex": '"status":"',
    r"-X DELETE .*/uploads/": "",
    r"/uploads/": '"status":"ready"',
    r"/webhooks/secret": '"secret":"whsec_',
    r"/webhooks/deliveries": '"deliveries":[',
    r"/webhooks": '"endpoints":[',
    r"/ready": '"status":"ready"',
}
CURL = r"curl (?!-H \"Authorization)(?!.*https://example\.com)"
RQ_WORKER = r"\.venv/bin/rq worker"
INDEX = r"\.venv/bin/python index\.py"
MAIN = r"\.venv/bin/python main\.py (eval|dead|audit|reindex|doctor|top|backup)"
KEYS = r"\.venv/bin/python main\.py keys|curl -H \"Authorization"
RQ_INFO = r"\.venv/bin/rq info"
DASHBOARD = r"uvx .*rq-dashboard"
RUN_HERE = (CURL, RQ_WORKER, INDEX, MAIN, KEYS, RQ_INFO, DASHBOARD, "import json\n", "from redis import")


def matching(pattern: str) -> list[Snippet]:
    """Return the commands and scripts that begin as `pattern` says; at least one."""
    found = [snippet for snippet in COMMANDS + SCRIPTS if re.match(pattern, snippet.text)]
    assert found, pattern
    return found


def each(pattern: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("snippet", matching(pattern), ids=str)


def test_every_command_is_run_or_has_a_reason() -> None:
    def patterns_of(snippet: Snippet) -> list[str]:
        return [pattern for pattern in (*RUN_HERE, *NOT_RUN) if re.match(pattern, snippet.text)]

    assert [f"{snippet}: {snippet.text}" for snippet in COMMANDS + SCRIPTS if len(patterns_of(snippet)) != 1] == []


def test_every_reason_is_needed_and_names_tests_that_exist() -> None:
    for pattern, reason in NOT_RUN.items():
        assert matching(pattern)
        for path in re.findall(r"tests/\S+\.py", reason):
            assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def sample_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has indexed what the README says to index."""
    with service(tmp_path_factory.mktemp("readme")) as started:
        run(started, matching(INDEX)[0].text)
        yield started


def localized(started: Service, text: str) -> str:
    """Replace the addresses and paths of the documents by those of this run."""
    text = text.replace("http://127.0.0.1:8000", str(started.api.base_url).rstrip("/"))
    return text.replace("redis://127.0.0.1:6379", started.valkey_url).replace(".venv/bin/", f"{BIN}/")


def run(started: Service, command: str, **variables: str) -> str:
    """Run a shell command and return its output. Fails unless the exit status is 0."""
    done = subprocess.run(
        ["/bin/sh", "-c", localized(started, command)],
        cwd=ROOT,
        env=environment(DATA_DIR=str(started.data_dir), **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ask(started: Service) -> str:
    """Ask a question, wait for the answer and return the job's id."""
    job_id = str(started.api.post("/chat", params={"query": "How heavy is the lamp?"}).json()["job_id"])
    wait_until(lambda: started.api.get(f"/result/{job_id}").status_code == 200)
    return job_id


def upload(started: Service) -> str:
    """Upload a new file, wait until it is ready and return its id."""
    content = f"This is a file of the tests, number {uuid.uuid4()}."
    made = started.api.post("/uploads", files={"file": ("test.txt", content)}).json()
    upload_id = str(made["upload_id"])
    wait_until(lambda: started.api.get(f"/uploads/{upload_id}").json()["status"] == "ready")
    return upload_id


def submit_batch(started: Service) -> str:
    """Ask two questions at once, wait for the answers and return the batch's id."""
    questions = [{"query": "How heavy is the lamp?"}, {"query": "Does it float?"}]
    batch_id = str(started.api.post("/chat/batch", json={"questions": questions}).json()["batch_id"])
    wait_until(lambda: started.api.get(f"/batches/{batch_id}").json()["finished"] == 2)
    return batch_id


@each(CURL)
def test_curl_commands(snippet: Snippet, sample_service: Service) -> None:
    command = re.sub(r"01a1fd24-[0-9a-f]{4}-[0-9a-f-]{22}", "$JOB_ID", snippet.text)
    makers = {"JOB_ID": ask, "UPLOAD_ID": upload, "BATCH_ID": submit_batch}
    variables = {name: make(sample_service) for name, make in makers.items() if f"${name}" in command}
    output = run(sample_service, f"{command} -sS --fail-with-body", **variables)
    expected = next(expected for pattern, expected in RESPONSES.items() if re.search(pattern, command))
    assert expected in output


def test_the_answer_of_the_readme_is_what_the_service_gives(sample_service: Service) -> None:
    accepted = json.loads(run(sample_service, f"{matching('curl -X POST .*full')[0].text} -s"))
    job_id = accepted["job_id"]
    wait_until(lambda: sample_service.api.get(f"/result/{job_id}").status_code == 200)
    result = sample_service.api.get(f"/result/{job_id}").json()
    shown_accepted, shown_result = [
        json.loads(block.text) for block in all_snippets("json") if block.document == "README.md"
    ]
    assert accepted.keys() == shown_accepted.keys()
    assert result.keys() >= shown_result.keys()
    for name in ("n", "name", "page", "page_label"):
        assert result["sources"][0][name] == shown_result["sources"][0][name]
    quote, highlight = (result["sources"][0][name] for name in ("quote", "highlight"))
    assert highlight == shown_result["sources"][0]["highlight"]
    assert f"“{' '.join(quote[slice(*highlight)].split())}”" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_polling_script(sample_service: Service, tmp_path: Path) -> None:
    script = tmp_path / "poll.py"
    script.write_text(localized(sample_service, matching("import json\n")[0].text))
    done = subprocess.run([PYTHON, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert "[1] handbook.pdf, page 2: " in done.stdout
    assert "A full charge takes three hours and twenty minutes." in done.stdout


def test_the_script_that_requeues_failed_jobs(sample_service: Service, tmp_path: Path) -> None:
    with Redis.from_url(sample_service.valkey_url) as valkey:
        queue = Queue("rag_queries", connection=valkey, serializer=PlainSerializer)
        failed, stopped = queue.enqueue("nowhere.to_be_found"), queue.create_job("nowhere.to_be_found")
        stopped.set_status(RqStatus.STOPPED)
        FailedJobRegistry(queue=queue).add(stopped)
        attempts = partial(valkey.hget, failed.key, "attempts")
        wait_until(lambda: failed.get_status() is RqStatus.FAILED)
        assert attempts() == b"1"
        script = tmp_path / "requeue.py"
        script.write_text(localized(sample_service, matching("from redis import")[0].text))
        subprocess.run([PYTHON, str(script)], capture_output=True, text=True, timeout=60, check=True)
        wait_until(lambda: attempts() == b"2")
        assert stopped.get_status() is RqStatus.STOPPED


@each(RQ_INFO)
def test_rq_info_shows_queues_and_workers(snippet: Snippet, sample_service: Service) -> None:
    shown = run(sample_service, snippet.text)
    assert "rag_queries" in shown
    assert re.search(r"^[1-9]\d* workers, ", shown, re.MULTILINE), shown


@each(INDEX)
def test_index_commands(snippet: Snippet, sample_service: Service) -> None:
    assert "1 file" in run(sample_service, snippet.text)


@each(MAIN)
def test_main_commands(snippet: Snippet, sample_service: Service, tmp_path: Path) -> None:
    variables = {"UPLOAD_ID": upload(sample_service)} if "$UPLOAD_ID" in snippet.text else {}
    text = re.sub(r"report\.html|backup\.tar\.zst", lambda found: str(tmp_path / found[0]), snippet.text)
    assert run(sample_service, text, **variables)


@each(RQ_WORKER)
def test_commands_that_add_workers(snippet: Snippet, sample_service: Service, tmp_path: Path) -> None:
    command = shlex.split(localized(sample_service, snippet.text))
    with running(Fresh(command), tmp_path / "worker.log", DATA_DIR=str(sample_service.data_dir)) as worker:
        listening = re.compile("Listening on|working on rag_queries")  # RQ's worker, RagWorker
        wait_until(lambda: listening.search(worker.output), seconds=40, what=lambda: f"listening: {worker.output}")
        ask(sample_service)


def test_commands_that_make_use_and_revoke_keys(tmp_path: Path) -> None:
    create_admin, create, listing, revoke, curl = (snippet.text for snippet in matching(KEYS))
    status = f"{curl} -s -o /dev/null -w '%{{http_code}}'"
    with service(tmp_path) as started:
        assert run(started, status, KEY=run(started, create_admin).splitlines()[-1]) == "200"
        key = run(started, create).splitlines()[-1]
        assert run(started, status, KEY=key) == "200"
        key_id = next(line for line in run(started, listing).splitlines() if "laptop" in line).split()[0]
        run(started, revoke.replace("ID", key_id))
        assert run(started, status, KEY=key) == "401"


@each(DASHBOARD)
def test_rq_dashboard_shows_our_jobs(snippet: Snippet, sample_service: Service, tmp_path: Path) -> None:
    job_id, port = ask(sample_service), free_port()
    command = shlex.split(localized(sample_service, snippet.text).replace("uvx --with six ", f"{BIN}/"))
    log = tmp_path / "dashboard.log"
    with running([*command, "--port", str(port), "--bind", "127.0.0.1"], log) as dashboard:
        wait_until(lambda: "Running on" in dashboard.output, what="the dashboard")
        shown = httpx.get(f"http://127.0.0.1:{port}/0/data/job/{job_id}.json")
        assert shown.status_code == 200, dashboard.output
        assert shown.json()["job"]["origin"] == "rag_queries" if "job" in shown.json() else shown.json()["origin"]


def test_the_demo_ends_with_an_answer_and_its_pages() -> None:
    done = subprocess.run(
        [PYTHON, "-m", "bench.demo"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[1/1] handbook.pdf: 10 pages" in done.stderr
    assert "1 file, 10 pages, 10 chunks stored" in done.stdout
    assert "[1] handbook.pdf, page 2 (page 4 of the file)" in done.stdout
