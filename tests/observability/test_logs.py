"""Log lines: their form, the content withheld from them, and the audit log. Each test runs a process."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from observability.redaction import make_redactor
from tests.support import processes
from tests.support.processes import PYTHON, ROOT, environment

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
START = """
import logging, os, sys, threading, warnings
from observability import logs
from settings import load_settings
logs.configure(load_settings())
"""


def run(code: str, **variables: str) -> str:
    """Run code after logs.configure; return its output."""
    done = subprocess.run(
        [PYTHON, "-c", START + code],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def run_json(code: str, **variables: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code, LOG_FORMAT="json", **variables).splitlines()]


def test_all_loggers_write_one_form_with_the_fields_of_the_context() -> None:
    logged = run_json(
        "logs.add_context(request_id='r1')\n"
        "logging.getLogger('api').info('asked', extra=logs.fields(status=202, user_id=None))\n"
        "logging.getLogger('uvicorn.error').info('Started on %s', 7)\n"
        "logging.getLogger('rq.worker').info('working')\n"
        "logs.audit('upload_added', upload_id='u1')\n"
        "with logs.context(job_id='j1'): logging.getLogger('queues').warning('slow')\n"
    )
    assert [line.pop("timestamp").endswith("+00:00") for line in logged] == [True] * 5
    assert logged == [
        {"level": "info", "logger": "api", "event": "asked", "request_id": "r1", "status": 202},
        {"level": "info", "logger": "uvicorn.error", "event": "Started on 7", "request_id": "r1"},
        {"level": "info", "logger": "rq.worker", "event": "working", "request_id": "r1"},
        {"level": "info", "logger": "audit", "event": "upload_added", "request_id": "r1", "upload_id": "u1"},
        {"level": "warning", "logger": "queues", "event": "slow", "request_id": "r1", "job_id": "j1"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc-secret-1",
        "{'authorization': 'Bearer abc-secret-1'}",
        '{"X-API-Key": "abc-secret-1"}',
        "(b'x-api-key', b'abc-secret-1')",
        "api_key=abc-secret-1",
        "redis://user:abc-secret-1@host:6379/0",
        "postgresql://:abc-secret-1@host/db",
        "Basic abc-secret-1",
        "rag_abc-secret-1_0123456789",
        "whsec_abc/secret/1+0123456789",
        "sk-proj-abc-secret-1",
        JWT,
    ],
)
def test_text_in_the_form_of_a_secret_is_hidden(text: str) -> None:
    redacted = make_redactor([])(f"before {text} after")
    assert "secret" not in redacted
    assert "c2lnbmF0dXJl" not in redacted
    assert "***" in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_secrets_of_the_settings_are_hidden_in_every_form() -> None:
    secret = 'quo"te\\back-ünïcode, long enough to sign with'
    output = run(
        "s = load_settings().jwt_secret.get_secret_value()\n"
        "logging.getLogger('api').error('it is %s, %r', s, s, extra=logs.fields(key=s, also=[s]))\n"
        "logs.audit('key_used', key=s)\n",
        LOG_FORMAT="json",
        JWT_SECRET=secret,
        JWT_AUDIENCE="us",
        JWT_ISSUER="them",
    )
    assert output.count("***") == 5
    assert "back" not in output


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions_are_logged_without_their_messages(log_format: str) -> None:
    code = (
        "def fail(question):\n"
        "    try:\n        int(question)\n"
        "    except ValueError as error:\n        raise RuntimeError(f'at {question}') from error\n"
        "q = sys.argv[0] + ''.join(['Can', 'ary'])\n"
        "try:\n    fail(q)\nexcept RuntimeError:\n    logging.getLogger('api').exception('it failed')\n"
        "thread = threading.Thread(target=fail, args=[q])\nthread.start()\nthread.join()\n"
        "warnings.warn(q)\n"
        "logging.getLogger('pypdf').warning('bad header %s', q)\n"
        "logging.getLogger('pypdf').warning(f'bad header {q}')\n"
        "logging.getLogger('openai').info(q)\n"
        "logging.getLogger('asyncio').error(f'Task exception was never retrieved\\nfuture: {q}')\n"
        "logging.getLogger('api').info('%d', q)\n"  # cannot be formatted
        "fail(q)\n"
    )
    output = run(code, LOG_FORMAT=log_format)
    assert "Canary" not in output
    assert output.count("ValueError: (message withheld") == 3
    assert output.count("RuntimeError: (message withheld") == 3
    for shown in ("in fail", "bad header %s", "UserWarning", "never retrieved", "a line of api could not be logged"):
        assert shown in output
    assert "Canary" in run(code, LOG_FORMAT=log_format, LOG_CONTENT="1")


def test_a_field_may_hold_a_value_that_json_does_not_know() -> None:
    code = "import datetime\nlogging.getLogger('api').info('due', extra=logs.fields(at=datetime.datetime(2026, 1, 2)))"
    assert run(code).endswith('at="2026-01-02 00:00:00"\n')
    assert run_json(code)[0]["at"] == "2026-01-02 00:00:00"


def test_a_message_cannot_forge_a_line() -> None:
    code = "logging.getLogger('api').warning('a\\n00:00:00 ERROR api: forged\\x1b[2J', extra=logs.fields(b='c\\nd'))"
    assert len(run(code).splitlines()) == 1
    assert "\x1b" not in run(code)


def test_audit_lines_go_to_the_audit_log_too_at_any_level(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.jsonl"
    code = "for n in range(2):\n    logs.audit('upload_deleted', n=n)\n    os.rename({0!r}, {0!r} + str(n))\n"
    logged = run_json(code.format(str(path)), AUDIT_LOG=str(path), LOG_LEVEL="ERROR")
    assert [(line["logger"], line["event"], line["n"]) for line in logged] == [
        ("audit", "upload_deleted", 0),
        ("audit", "upload_deleted", 1),
    ]
    for number, line in enumerate(logged):  # each line is in the file of its time: the test rotates after each
        rotated = path.with_name(f"audit.jsonl{number}")
        assert json.loads(rotated.read_text()) == line
        assert stat.S_IMODE(rotated.stat().st_mode) == 0o600


def test_an_audit_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    output = run("", AUDIT_LOG=str(tmp_path))
    assert "AUDIT_LOG" in output
    assert "cannot be written" in output


@pytest.mark.parametrize("with_file", [False, True], ids=["no AUDIT_LOG", "AUDIT_LOG"])
def test_a_command_prints_no_audit_lines(with_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    variables = {"AUDIT_LOG": str(path)} if with_file else {}
    command = [PYTHON, "main.py", "keys", "create", "--name", "ci"]
    done = processes.run(command, DATA_DIR=str(tmp_path / "data"), **variables)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "{" not in done.stdout
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()] if with_file else []
    assert events == (["key_created"] if with_file else [])
