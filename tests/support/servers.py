"""A PostgreSQL and an S3 server for the tests: each on a free port and a temporary folder, gone when the tests are."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.support.processes import free_port, wait_until

BUCKET = "uploads"
S3_KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


def missing(what: str) -> None:
    """Skip on a laptop that lacks a server; fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is not installed")


@contextmanager
def postgres(**parameters: str) -> Iterator[str]:
    """Run a PostgreSQL of its own, with these of its parameters; yield its URL. Root runs it as another user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        missing("PostgreSQL")
        return
    user = _other_user()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data, port = folder / "data", free_port()
        _run([initdb, "-D", str(data), "-U", "rag", "--auth=trust", "--no-sync", "-E", "UTF8"], user, folder)
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        options += [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        with subprocess.Popen(
            [str(Path(initdb).with_name("postgres")), "-D", str(data), *options],
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                isready = [str(Path(initdb).with_name("pg_isready")), "-h", "127.0.0.1", "-p", str(port), "-q"]
                wait_until(lambda: subprocess.run(isready, check=False).returncode == 0, what="PostgreSQL")
                yield f"postgresql://rag@127.0.0.1:{port}/postgres"
            finally:
                server.terminate()
                server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> str | None:
    if os.getuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _run(command: list[str], user: str | None, folder: Path) -> None:
    subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True)


@contextmanager
def s3() -> Iterator[str]:
    """Run moto's S3 server with an empty bucket; yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_until(lambda: _answers(url), seconds=30, what="the S3 server")
            httpx.put(f"{url}/{BUCKET}").raise_for_status()
            yield url
        finally:
            server.terminate()
            server.wait(20)


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code < 500
    return False


def empty_database(postgres_url: str) -> str:
    """Drop all tables; return the URL."""
    engine = create_engine("postgresql+psycopg" + postgres_url.removeprefix("postgresql"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres_url


def s3_location(url: str) -> dict[str, str]:
    """Return the settings of an empty file store on an S3 server."""
    return {"file_store_url": f"s3://{BUCKET}/{uuid.uuid4()}", "aws_endpoint_url": url, **S3_KEYS}
