"""Start the service: `python main.py` runs everything, `main.py api` and `main.py worker` run one part.

The other commands, each a module of cli/, manage a service: `keys` its API keys, `dead` its failed jobs, `audit` its
stores, `reindex` its index, `migrate` its database; `doctor` checks all of it; `eval` measures its answers.
"""

from __future__ import annotations

import argparse
import errno
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from types import FrameType
from typing import NoReturn

from cli import arguments as arguments_of
from cli import dead_letters, keys
from cli.processes import EXIT_CONFIG, run_all, run_apis, stop_with_parent, stop_with_terminal
from client.files import data_dir
from client.valkey import embedded as embedded_valkey
from errors import AppError, SettingsError, UploadsUnavailable
from observability import commands, logs, tracing
from settings import Settings, load_settings, use_utf8, without_password
from settings.stop_times import ORPHANED_WORKER_SECONDS


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments if arguments[:1] != ["eval"] else ["eval"])
    try:
        settings = load_settings()
        # Only services write the audit log to standard error: its lines would mix with the lines that a command prints.
        logs.configure(settings, audit_to_stderr=(options.part or "all") in _SERVICES)
        if options.supervised:
            stop_with_parent()
        stop_with_terminal()
        data_dir.prepare(settings)
        if (options.part or "all") in _SERVICES:
            tracing.require(settings)
        if options.part == "eval":
            from cli.evaluate import main as evaluate

            return evaluate(arguments[1:])
        return _PARTS[options.part or "all"](settings, options)
    except AppError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="main.py", description="Ask questions of your own documents over HTTP.")
    parser.set_defaults(part="all", supervised=False)
    parts = parser.add_subparsers(dest="part", metavar="PART", help="what to run (default: everything)")
    for name, description in (("all", "everything"), ("api", "the HTTP API"), ("worker", "one worker process")):
        part = parts.add_parser(name, help=description)
        part.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
        if name == "api":
            part.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    arguments_of.add_doctor(parts.add_parser("doctor", help="check the settings, this machine and every service"))
    arguments_of.add_backup(parts)
    arguments_of.add_top(parts.add_parser("top", help="show queues, workers, rates and failures, live"))
    dead_letters.add_arguments(parts.add_parser("dead", help="list, retry or drop jobs that failed"))
    parts.add_parser("eval", help="measure answers; see `main.py eval --help`")
    keys.add_arguments(parts.add_parser("keys", help="create, list or revoke API keys"))
    arguments_of.add_reindex(parts.add_parser("reindex", help="build the index for the present EMBEDDING_MODEL"))
    parts.add_parser("migrate", help="bring the database's tables to this version, which the start does too")
    audit = parts.add_parser("audit", help="find and repair inconsistencies between the stores")
    how = audit.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="print what would be repaired, and change nothing")
    how.add_argument(
        "--repair",
        action="store_true",
        help="also remove points and files that belong to no upload; set a damaged embedded Qdrant aside, and index "
        "its uploads again; repair damaged files of the embedded Valkey first, and start it if needed",
    )
    return parser


def _reindex(settings: Settings, options: argparse.Namespace) -> int:
    from cli.reindex import run  # imports the search, which other commands do without

    return run(settings, options)


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from cli.doctor import run  # imports every service

    return run(settings, options)


def _backup(settings: Settings, options: argparse.Namespace) -> int:
    from cli.backup import run  # imports every service

    return run(settings, options)


def _restore(settings: Settings, options: argparse.Namespace) -> int:
    from cli.restore import run  # imports every service

    return run(settings, options)


def _top(settings: Settings, options: argparse.Namespace) -> int:
    from cli.top import run  # imports rich

    return run(settings, options)


def _run_all(settings: Settings, _options: argparse.Namespace) -> int:
    if settings.database_url is not None:  # SQLite is in DATA_DIR, which is prepared already
        _require_database(settings)
    with _bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        run_all(settings, listener, started=lambda url: print(_banner(settings, url), flush=True))
    return 0


def _run_api(settings: Settings, options: argparse.Namespace) -> int:
    _require_database(settings)
    if options.listen_fd is not None:
        _serve(settings, listener=socket.socket(fileno=options.listen_fd))
        return 0
    with _bind(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        if settings.api_processes > 1:
            run_apis(settings, listener)
            return 0
    _serve(settings)
    return 0


def _serve(settings: Settings, *, listener: socket.socket | None = None) -> None:
    """Run the API in this process, on HOST and PORT or on a socket that it shares with other processes."""
    import uvicorn

    from api.uvicorn_protocol import uvicorn_options
    from server import create_app

    with _queue_url(settings) as url:
        _require_own_queue(settings, url)
        app = create_app(settings.model_copy(update={"valkey_url": url}))
        gc.freeze()  # full collections of the objects of the imports were 7 % of the CPU of 400 watchers
        if listener is None:
            uvicorn.run(app, host=settings.host, port=settings.port, **uvicorn_options(settings))
        else:
            uvicorn.Server(uvicorn.Config(app, **uvicorn_options(settings))).run(sockets=[listener])


def _run_worker(settings: Settings, options: argparse.Namespace) -> int:
    from queues.run import run_worker

    _require_database(settings)
    with _queue_url(settings) as url:
        run_worker(settings, url=url, patience_seconds=ORPHANED_WORKER_SECONDS if options.supervised else 0.0)
    return 0


def _audit(settings: Settings, options: argparse.Namespace) -> int:
    from cli.audit import run_audit

    repaired = embedded_valkey.repair(settings) if options.repair else []
    for line in repaired:
        print(line, flush=True)
    serving = (
        embedded_valkey.serving(settings) if options.repair else nullcontext(embedded_valkey.require_url(settings))
    )
    with serving as url:
        lines = run_audit(settings, url=url, repair=not options.dry_run, delete=options.repair)
    print("\n".join([*lines, f"{len(repaired) + len(lines)} found"]))
    return 0


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    from client.sql.database import REVISION, Database

    with closing(Database(settings)) as database:
        database.migrate()
    print(f"the database has the tables of this version ({REVISION})")
    return 0


@contextmanager
def _queue_url(settings: Settings) -> Iterator[str]:
    """Yield the URL of the queues. An embedded Valkey that this process started also ends on SIGTERM."""
    if settings.valkey_url is None:
        # uvicorn shuts down and then raises SIGTERM again, which would end this process before its Valkey.
        signal.signal(signal.SIGTERM, _exit)
    with embedded_valkey.serving(settings) as url:
        yield url


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _require_database(settings: Settings) -> None:
    """Open the database once, so that a wrong DATABASE_URL stops the start. Raises SettingsError."""
    # Imported here: SQLAlchemy takes 0.3 s, which main.py would pay before it starts anything.
    from client.sql.database import Database

    database = Database(settings)
    try:
        database.prepare()
    finally:
        database.close()


def _require_own_queue(settings: Settings, url: str) -> None:
    """Raise SettingsError if the Valkey belongs to another deployment. Does nothing while it is away."""
    from redis import Redis
    from redis.exceptions import RedisError

    from client.sql.database import Database
    from client.sql.deployment import DeploymentRepository
    from client.sql.uploads import UploadRepository
    from documents.deployment import require_own_queue

    database = Database(settings)
    with (
        closing(database),
        suppress(RedisError, UploadsUnavailable),
        Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as valkey,
    ):
        require_own_queue(DeploymentRepository(database), UploadRepository(database), valkey)


def _bind(settings: Settings) -> socket.socket:
    """Return a socket bound to HOST and PORT, or to a free port if PORT is 0. It does not listen yet.

    Raises SettingsError if the address cannot be used, or if other machines would be let in without authentication.
    """
    wrong_host = (
        f"HOST {settings.host} is not an address of this machine: "
        "set it to 127.0.0.1, or to 0.0.0.0 for every address this machine has"
    )
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingsError(wrong_host) from None
    keys.require_authentication(settings)
    family, kind, _, _, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsError(wrong_host) from None
        raise SettingsError(
            f"cannot listen on HOST {settings.host}, PORT {settings.port} ({error.strerror}): "
            "stop the program that uses it, or set another PORT"
        ) from None
    return listener


def _banner(settings: Settings, url: str) -> str:
    """Return the lines to print after the start: where each part runs, and the commands to type next."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 (only compared)
    host = f"[{host}]" if ":" in host else host
    shown = without_password(url)
    model = (
        "offline: answers are quoted, not generated (set OPENAI_API_KEY or OPENAI_BASE_URL)"
        if settings.offline
        else f"{settings.chat_model}, {settings.dense_model or 'lexical search'}"
    )
    return f"""
  page     http://{host}:{settings.port}
  API      http://{host}:{settings.port}   Swagger: http://{host}:{settings.port}/docs
  model    {model}{_ollama() if settings.offline else ""}
  queue    {shown}{"" if settings.valkey_url else f"   embedded, in {settings.valkey_dir}"}
  vectors  {settings.qdrant_url or f"embedded, in {settings.qdrant_dir}"}

  index    {commands.script("index.py")} PATH
  worker   {commands.rq_worker(shown)}   (in another terminal, as many as you like)
"""


def _ollama() -> str:
    """Return the settings for the Ollama of this machine, as lines of the banner; empty if there is none."""
    import asyncio

    from client.llm import ollama

    found = asyncio.run(ollama.find())
    if found is None:
        return ""
    return "".join(
        f"\n             {line}" for line in ["an Ollama runs here; to have it answer, set:", *found.settings]
    )


# These parts run until they are stopped; the others print their answer and end.
_SERVICES = {"all", "api", "worker"}
_PARTS = {
    "all": _run_all,
    "api": _run_api,
    "worker": _run_worker,
    "keys": keys.run,
    "dead": dead_letters.run,
    "audit": _audit,
    "backup": _backup,
    "doctor": _doctor,
    "migrate": _migrate,
    "restore": _restore,
    "top": _top,
    "reindex": _reindex,
}

if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
