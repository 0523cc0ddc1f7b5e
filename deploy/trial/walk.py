"""The steps of docs/deployment.md, in order, each with what a user would look at."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.trial import images
from deploy.trial.docker import Compose, TrialFailed, attempt, run, wait_until
from tests.support.openai_stub import KEY, Behaviour, make_stub, serving

QUESTION = {"query": "How long does the battery last at medium brightness?", "cache": False}
QUOTED = "9 hours"
PROGRAMS = Path(sys.executable).parent
DASHBOARD_STOP_SECONDS = 8.0
BUSY = 503


class Service:
    """The API, as a client with a key sees it."""

    def __init__(self, port: int, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=70)

    def ask(self, **more: Any) -> str:
        """Send the question; return its job id. An API that is busy is asked again."""
        answers: list[httpx.Response] = []

        def taken() -> bool:
            answers.append(self._client.post("/chat", json=QUESTION | more))
            return answers[-1].status_code != BUSY

        wait_until(taken, seconds=60, what=lambda: f"POST /chat: {answers[-1].text}", pause=1.0)
        expect(answers[-1].status_code == 202, f"POST /chat: {answers[-1].status_code} {answers[-1].text}")
        return str(answers[-1].json()["job_id"])

    def result(self, job: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for a job's end; return its result. Connections that fail meanwhile are made again."""
        last: dict[str, Any] = {}

        def ended() -> bool:
            try:
                last.update(self._client.get(f"/result/{job}?wait=5").json())
            except (httpx.TransportError, ValueError):
                return False
            return last.get("status") in {"completed", "failed", "canceled"}

        wait_until(ended, seconds=seconds, what=lambda: f"job {job} has not ended: {last}")
        return last

    def upload(self, path: Path) -> dict[str, Any]:
        """Send a file and wait until it is indexed; return its job's result."""
        with path.open("rb") as file:
            answer = self._client.post("/uploads", files={"file": (path.name, file)})
        if answer.status_code != 202:
            raise TrialFailed(f"POST /uploads: {answer.status_code} {answer.text}")
        return self.result(answer.json()["job_id"])


def expect(truth: object, otherwise: str) -> None:
    if not truth:
        raise TrialFailed(otherwise)


def is_answered(service: Service, **more: Any) -> str:
    """Ask; return the answer, which must quote the handbook. Raises TrialFailed."""
    return check_answer(service.result(service.ask(**more)))


def check_answer(result: dict[str, Any]) -> str:
    sources = result.get("sources") or []
    expect(
        result.get("status") == "completed" and any(QUOTED in s["quote"] for s in sources), f"no such answer: {result}"
    )
    return f"{result['result'][:60]!r}, page {sources[0]['page']}"


class Walk:
    """One walk through the steps, on a copy of the checkout.

    Each step returns what is worth printing. Raises TrialFailed.
    """

    def __init__(self, copy: Path, ports: dict[str, int]) -> None:
        self._copy = copy
        self._ports = ports
        self._variables = {name: str(port) for name, port in ports.items()}
        self._variables |= {"COMPOSE_PROJECT_NAME": "rag-trial", "VALKEY_PASSWORD": "", "QDRANT_API_KEY": ""}
        self._service = Service(ports["PORT"])

    def compose(self, *profiles: str, **variables: str) -> Compose:
        return Compose(self._copy, self._variables | variables, profiles=profiles or ("app",))

    def servers(self) -> Compose:
        """Return the compose file without any profile."""
        return Compose(self._copy, self._variables)

    def base_images(self) -> str:
        return images.provide(self._copy)

    def servers_with_nothing_set(self) -> str:
        """`docker compose up -d`."""
        compose = self.servers()
        compose("up", "--detach")
        compose.wait_healthy("valkey", "qdrant")
        return "Valkey and Qdrant are healthy"

    def commands_beside_them(self) -> str:
        """RQ's commands and main.py as README.md prints them, on these servers."""
        valkey = f"redis://localhost:{self._ports['VALKEY_PORT']}"
        info = self._program("rq", "info", "--url", valkey)
        self._program("rq", "worker", "--url", valkey, "rag_queries", "--with-scheduler", "--burst")
        use = {"VALKEY_URL": valkey, "QDRANT_URL": f"http://127.0.0.1:{self._ports['QDRANT_PORT']}"}
        data = self._copy.parent / "data-beside"  # not in the image that a later step builds
        with self._main(**use, PORT=str(self._ports["PORT"]), DATA_DIR=str(data)):
            self._ready()
            self._service.upload(self._copy / "samples" / "handbook.pdf")
            answer = is_answered(self._service)
        expect("queues" in info, info)
        self.servers()("down", "--volumes")
        return f"rq info, rq worker, main.py: {answer}"

    def secrets_are_asked_for(self) -> str:
        """`--profile app` without secrets ends with the line that makes them."""
        code, _ = self.compose().attempt("up", "--detach", "--no-build", "secrets-in-env-file")
        log = self.compose()("logs", "secrets-in-env-file")
        expect("openssl rand -hex 32" in log, f"exit code {code}: {log}")
        self.compose()("down", "--volumes")
        return log.splitlines()[0].partition("| ")[2]

    def build(self) -> str:
        self._variables |= {"VALKEY_PASSWORD": secrets.token_hex(32), "QDRANT_API_KEY": secrets.token_hex(32)}
        self.compose()("build")
        sizes = {}
        for part in ("api", "rq-dashboard"):
            sizes[part] = int(run(["docker", "image", "inspect", "-f", "{{.Size}}", f"rag-trial-{part}"])) / 1e6
        base = int(run(["docker", "image", "inspect", "-f", "{{.Size}}", images.PYTHON])) / 1e6
        return f"api {sizes['api']:.0f} MB, rq-dashboard {sizes['rq-dashboard']:.0f} MB, on a base of {base:.0f} MB"

    def everything_with_four_workers(self) -> str:
        compose = self.compose()
        compose("up", "--detach", "--scale", "worker=4")
        compose.wait_healthy("valkey", "qdrant", "api", "worker", "rq-dashboard")
        return f"{len(compose.containers('worker'))} workers"

    def a_key_an_upload_an_answer(self) -> str:
        printed = self.compose()("exec", "-T", "api", "python", "main.py", "keys", "create", "--name", "trial")
        key = next(word for word in printed.split() if word.startswith("rag_"))
        expect(httpx.get(f"http://127.0.0.1:{self._ports['PORT']}/uploads").status_code == 401, "no key was asked for")
        self._service = Service(self._ports["PORT"], key)
        self._service.upload(self._copy / "samples" / "handbook.pdf")
        return is_answered(self._service)

    def a_folder_of_documents(self) -> str:
        """DOCUMENTS: a folder, one that is not there, and one that may not be read."""
        folder = self._copy.parent / "papers"
        folder.mkdir(mode=0o755)
        (folder / "note.txt").write_text("The lighthouse was built in 1887.")
        command = ("run", "--rm", "--no-deps", "-T", "worker", "python", "index.py", "/documents")
        self.compose(DOCUMENTS=str(folder))(*command)
        mistyped = folder.with_name("papers-mistyped")
        code, said = self.compose(DOCUMENTS=str(mistyped)).attempt(*command)
        expect(code != 0 and str(mistyped) in said and not mistyped.exists(), f"a mistyped folder: {code} {said}")
        folder.chmod(0o700)
        code, said = self.compose(DOCUMENTS=str(folder)).attempt(*command)
        expect(code != 0 and "Permission denied" in said, f"an unreadable folder: {code} {said}")
        return said.strip().splitlines()[-1]

    def a_model_on_the_host(self) -> str:
        """OPENAI_BASE_URL=http://host.docker.internal:PORT/v1, as for an Ollama on the host."""
        name = "host.docker.internal"
        asked = ["docker", "run", "--rm", "--add-host", f"{name}:host-gateway", images.PYTHON, "getent", "hosts", name]
        gateway = run(asked).split()[0]
        behaviour = Behaviour()
        with serving(make_stub(behaviour), host=gateway) as url:
            model = {
                "OPENAI_BASE_URL": f"http://host.docker.internal:{url.rpartition(':')[2]}/v1",
                "OPENAI_API_KEY": KEY,
            }
            compose = self.compose(**model)
            compose("up", "--detach", "--scale", "worker=4")
            compose.wait_healthy("api", "worker")
            answer = is_answered(self._service)
            expect(behaviour.chats, "the model was not asked")
        self.compose()("up", "--detach", "--scale", "worker=4")
        self.compose().wait_healthy("api", "worker")
        return answer

    def every_part_is_killed(self) -> str:
        """SIGKILL to each part while questions wait; compose starts the part again, and no question is lost."""
        seconds = []
        for part in ("worker", "api", "valkey", "qdrant"):
            jobs = [self._service.ask() for _ in range(20)]
            for container in self.compose().containers(part):
                os.kill(container["State"]["Pid"], signal.SIGKILL)
            started = time.monotonic()
            for job in jobs:
                check_answer(self._service.result(job, seconds=120))
            seconds.append(f"{part} {time.monotonic() - started:.1f} s")
            self.compose().wait_healthy(part)
        return f"80 of 80 answered; after the kill of {', '.join(seconds)}"

    def metrics_in_prometheus(self) -> str:
        """The profile `observe`: Prometheus reads the API, its rules load; Grafana too, where it can be pulled."""
        compose = self.compose("app", "observe")
        compose("up", "--detach", "--no-deps", "prometheus")
        compose.wait_healthy("prometheus")
        base = f"http://127.0.0.1:{self._ports['PROMETHEUS_PORT']}/api/v1"

        def workers() -> str:
            found = httpx.get(f"{base}/query", params={"query": "sum(rq_workers)"}).json()["data"]["result"]
            return str(found[0]["value"][1]) if found else ""

        wait_until(lambda: workers() == "4", seconds=60, what=lambda: f"Prometheus has seen {workers()} workers")
        groups = httpx.get(f"{base}/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        wrong = [rule["name"] for rule in rules if rule["health"] == "err"]
        expect(rules and not wrong, f"rules: {wrong or 'none'}")
        seen = f"{len(rules)} rules, 4 workers"
        if not images.is_here(compose.image("grafana")):
            return f"{seen}; Grafana cannot be pulled here, and was not tried"
        compose("up", "--detach", "--no-deps", "grafana")
        compose.wait_healthy("grafana")
        url = f"http://127.0.0.1:{self._ports['GRAFANA_PORT']}/api/search?type=dash-db"
        expect(httpx.get(url).json(), "Grafana has no dashboard")
        return f"{seen}, Grafana has the dashboard"

    def nothing_but_data_can_be_written(self) -> str:
        said = []
        for part in ("api", "worker", "rq-dashboard"):
            for path in ("/app/x", "/x", "/usr/x"):
                code, _ = self.compose().attempt("exec", "-T", part, "sh", "-c", f"touch {path}")
                expect(code != 0, f"{part} could write {path}")
            for container in self.compose().containers(part):
                host = container["HostConfig"]
                expect(host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"], f"{part}: {host['CapDrop']}")
                expect(host["LogConfig"]["Config"].get("max-size"), f"{part}: logs do not rotate")
                expect(not container["Config"]["User"].startswith("0"), f"{part} runs as root")
            said.append(part)
        return ", ".join(said)

    def a_report_in_a_container(self) -> str:
        """`main.py eval --report`, on the volume, and on the file system that cannot be written."""
        command = ("exec", "-T", "worker", "python", "main.py", "eval", "samples/handbook.questions.jsonl", "--report")
        self.compose()(*command, "/data/report.html")
        code, said = self.compose().attempt(*command, "report.html")
        expect(code != 0 and "Traceback" not in said and "report.html" in said, f"{code} {said}")
        return said.strip().splitlines()[-1]

    def local_embeddings_without_their_packages(self) -> str:
        code, said = self._run_alone(self.compose(), "main.py", "worker")
        expect(code != 0 and "LOCAL_EMBEDDINGS=1" in said, f"{code} {said}")
        return next(line for line in said.splitlines() if "LOCAL_EMBEDDINGS" in line)

    def an_image_with_local_embeddings_and_traces(self) -> str:
        compose = self.compose(LOCAL_EMBEDDINGS="1", TELEMETRY="1")
        compose("build", "worker")
        size = int(run(["docker", "image", "inspect", "-f", "{{.Size}}", "rag-trial-worker"])) / 1e6
        code, said = self._run_alone(
            compose, "index.py", "/documents", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318"
        )
        expect(code == 0 and "chunks stored" in said, f"{code} {said}")
        return f"{size:.0f} MB; {said.strip().splitlines()[-1]}"

    def _run_alone(self, compose: Compose, *command: str, **variables: str) -> tuple[int, str]:
        """Run a command in a container of its own, with local embeddings and no other service."""
        variables |= {
            "EMBEDDING_MODEL": "local",
            "DATA_DIR": "/data/alone",
            **dict.fromkeys(("VALKEY_URL", "QDRANT_URL"), ""),
        }
        flags = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        return compose.attempt("run", "--rm", "--no-deps", "-T", *flags, "worker", "python", *command)

    def the_dashboard_ends(self) -> str:
        url = f"http://127.0.0.1:{self._ports['DASHBOARD_PORT']}/"
        password = ("rag", self._variables["VALKEY_PASSWORD"])
        expect(httpx.get(url).status_code == 401, "rq-dashboard asks for no password")
        expect(
            httpx.get(url, auth=password, follow_redirects=True).status_code == 200, "rq-dashboard refuses the password"
        )
        started = time.monotonic()
        self.compose()("stop", "rq-dashboard")
        seconds = time.monotonic() - started
        expect(seconds < DASHBOARD_STOP_SECONDS, f"it took {seconds:.1f} s to stop")
        return f"stopped in {seconds:.1f} s"

    def logs_have_no_warning(self) -> str:
        logs = self.compose()("logs", "api", "worker")
        bad = [line for line in logs.splitlines() if "Warning" in line or "Traceback" in line]
        expect(not bad, "\n".join(bad[:10]))
        return f"{len(logs.splitlines())} lines"

    def down_and_up_keep_everything(self) -> str:
        job = self._service.ask()
        check_answer(self._service.result(job))
        self.compose()("down")
        self.compose()("up", "--detach")
        self.compose().wait_healthy("api", "worker", "rq-dashboard")
        check_answer(self._service.result(job))
        return is_answered(self._service)

    def tls_between_the_containers(self) -> str:
        self.compose()("down", "--volumes")
        run(["sh", "deploy/certificates.sh"], folder=self._copy)
        files = ("docker-compose.yml", "docker-compose.tls.yml")
        compose = Compose(self._copy, self._variables, files=files, profiles=("app",))
        compose("up", "--detach")
        compose.wait_healthy("valkey", "qdrant", "api", "worker", "rq-dashboard")
        printed = compose("exec", "-T", "api", "python", "main.py", "keys", "create", "--name", "trial")
        key = next(word for word in printed.split() if word.startswith("rag_"))
        service = Service(self._ports["PORT"], key)
        service.upload(self._copy / "samples" / "handbook.pdf")
        return is_answered(service)

    def end(self) -> None:
        """Remove the containers, networks and volumes of the trial; its images stay, for the next one."""
        self.compose("app", "observe").attempt("down", "--volumes", "--remove-orphans")

    def _program(self, name: str, *arguments: str) -> str:
        return run([str(PROGRAMS / name), *arguments], folder=self._copy)

    @contextmanager
    def _main(self, **variables: str) -> Iterator[None]:
        log = self._copy / "main.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "main.py"],
                cwd=self._copy,
                env=os.environ | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def _ready(self) -> None:
        url = f"http://127.0.0.1:{self._ports['PORT']}/ready"
        wait_until(
            lambda: attempt(["curl", "-sf", url])[0] == 0,
            seconds=60,
            what=(self._copy / "main.log").read_text,
        )
