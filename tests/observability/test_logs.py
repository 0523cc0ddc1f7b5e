"""Log lines: their form, what is taken out of them, and the audit log. Each in a process of its own."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from observability.redaction import make_redactor
from tests.support.processes import PYTHON, ROOT, environment

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
START = """
import logging, os, sys, threading, warnings
from observability import logs
from settings import load_settings
logs.configure(load_settings())
"""


def run(code: str, **variables: str) -> str:
    """Run code after logs.configure; return what it wrote."""
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


def lines(code: str, **variables: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code, LOG_FORMAT="json", **variables).splitlines()]


def test_all_loggers_come_out_in_one_form_with_what_is_bound() -> None:
    found = lines(
        "logs.bind(request_id='r1')\n"
        "logging.getLogger('api').info('asked', extra=logs.fields(status=202, user_id=None))\n"
        "logging.getLogger('uvicorn.error').info('Started on %s', 7)\n"
        "logging.getLogger('rq.worker').info('working')\n"
        "logs.audit('upload_added', upload_id='u1')\n"
        "with logs.bound(job_id='j1'): logging.getLogger('queues').warning('slow')\n"
    )
    assert [one.pop("timestamp").endswith("+00:00") for one in found] == [True] * 5
    assert found == [
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
def test_what_has_the_shape_of_a_secret_is_hidden(text: str) -> None:
    redacted = make_redactor([])(f"before {text} after")
    assert "secret" not in redacted
    assert "c2lnbmF0dXJl" not in redacted
    assert "***" in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_secrets_of_the_settings_are_hidden_however_they_are_written() -> None:
    secret = 'quo"te\\back-ünïcode, long enough to sign with'
    said = run(
        "s = load_settings().jwt_secret.get_secret_value()\n"
        "logging.getLogger('api').error('it is %s, %r', s, s, extra=logs.fields(key=s, also=[s]))\n"
        "logs.audit('key_used', key=s)\n",
        LOG_FORMAT="json",
        JWT_SECRET=secret,
        JWT_AUDIENCE="us",
        JWT_ISSUER="them",
    )
    assert said.count("***") == 5
    assert "back" not in said


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions_are_told_without_what_they_say(log_format: str) -> None:
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
    said = run(code, LOG_FORMAT=log_format)
    assert "Canary" not in said
    assert said.count("ValueError: (message withheld") == 3
    assert said.count("RuntimeError: (message withheld") == 3
    for shown in ("in fail", "bad header %s", "UserWarning", "never retrieved", "a line of api could not be logged"):
        assert shown in said
    assert "Canary" in run(code, LOG_FORMAT=log_format, LOG_CONTENT="1")


def test_a_text_cannot_forge_a_line() -> None:
    code = "logging.getLogger('api').warning('a\\n00:00:00 ERROR api: forged\\x1b[2J', extra=logs.fields(b='c\\nd'))"
    assert len(run(code).splitlines()) == 1
    assert "\x1b" not in run(code)


def test_the_audit_log_is_a_file_of_its_own_too_whatever_the_level(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.jsonl"
    code = "for n in range(2):\n    logs.audit('upload_deleted', n=n)\n    os.rename({0!r}, {0!r} + str(n))\n"
    found = lines(code.format(str(path)), AUDIT_LOG=str(path), LOG_LEVEL="ERROR")
    assert [(line["logger"], line["event"], line["n"]) for line in found] == [
        ("audit", "upload_deleted", 0),
        ("audit", "upload_deleted", 1),
    ]
    for number, line in enumerate(found):  # each in the file that was there, although it was rotated away
        rotated = path.with_name(f"audit.jsonl{number}")
        assert json.loads(rotated.read_text()) == line
        assert stat.S_IMODE(rotated.stat().st_mode) == 0o600


def test_an_audit_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    said = run("", AUDIT_LOG=str(tmp_path))
    assert "AUDIT_LOG" in said
    assert "cannot be written" in said
