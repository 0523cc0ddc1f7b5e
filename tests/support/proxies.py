"""Reverse proxies of others, each with the configuration that docs/deployment.md shows, on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.documents import all_snippets
from tests.support.processes import free_port, wait_until
from tests.support.servers import missing

DOCUMENTED_API = "127.0.0.1:8000"
# All that nginx writes goes to the folder of the test. Without a reason to write, a body stays in memory.
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_min_length 0;
    gzip_proxied any;
    gzip_types text/event-stream application/json;
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""
HAPROXY = """\
defaults
    mode http
    timeout connect 10s
    timeout client 90s
    timeout server 90s
    compression algo gzip
    compression type text/event-stream application/json

"""


def documented(language: str) -> str:
    """Return the only example of docs/deployment.md in a language."""
    (snippet,) = all_snippets(language)
    return snippet.text


@contextmanager
def nginx(api: str, folder: Path, *, change: Callable[[str], str] = str) -> Iterator[str]:
    """Run nginx before the API at `api`, a host and a port, which compresses all it can; yield its URL."""
    program, port = _find("nginx"), free_port()
    location = change(documented("nginx").replace(DOCUMENTED_API, api))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, location=location))
    with _serving(
        [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")], port, folder
    ) as url:
        yield url


@contextmanager
def caddy(api: str, folder: Path) -> Iterator[str]:
    """Run Caddy before the API, without certificates; yield its URL."""
    program, port = _find("caddy"), free_port()
    site = documented("caddyfile").replace(DOCUMENTED_API, api)
    site = site.replace("rag.example {", f"http://127.0.0.1:{port} {{\n    encode gzip")
    config = folder / "Caddyfile"
    config.write_text(f"{{\n    admin off\n    storage file_system {folder}/caddy\n}}\n{site}")
    with _serving([program, "run", "--config", str(config), "--adapter", "caddyfile"], port, folder) as url:
        yield url


@contextmanager
def haproxy(api: str, folder: Path) -> Iterator[str]:
    """Run HAProxy before the API, which compresses all it can; yield its URL."""
    program, port = _find("haproxy"), free_port()
    text = documented("haproxy").replace(DOCUMENTED_API, api).replace("bind :80", f"bind 127.0.0.1:{port}")
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY + text)
    with _serving([program, "-db", "-f", str(config)], port, folder) as url:
        yield url


PROXIES = {"nginx": nginx, "caddy": caddy, "haproxy": haproxy}


def _find(name: str) -> str:
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        missing(name)
    return str(program)


@contextmanager
def _serving(command: list[str], port: int, folder: Path) -> Iterator[str]:
    output = folder / "output.log"
    with output.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), what=command[0])
            assert process.poll() is None, output.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
