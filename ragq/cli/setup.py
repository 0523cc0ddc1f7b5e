"""`ragq login` and `ragq completion`."""

from __future__ import annotations

import ipaddress
import sys
from urllib.parse import urlsplit

import click
from click.shell_completion import get_completion_class

from ragq.cli.command import end
from ragq.cli.output import Output
from ragq.client import Client
from ragq.config import DEFAULT_URL, Config, check_key, check_url, config_path, write_config
from ragq.errors import ConfigError, KeyRefused, RagqError


@click.command()
@click.argument("url", default=DEFAULT_URL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def login(url: str, *, as_json: bool) -> None:
    """Save the URL of a server, and the key for it if it wants one, in a file that only you can read.

    The key is asked for in a terminal; else it is the first line of standard input.
    """
    output = Output(as_json=as_json)
    try:
        config = Config(check_url(url), _read_key(url))
        with Client(config.url, api_key=config.api_key or "") as client:
            caller = client.me()
        write_config(config_path(), config)
    except OSError as error:
        end(output, ConfigError(f"{config_path()} cannot be written: {error.strerror}"))
    except RagqError as error:
        end(output, error)
    output.record({"url": config.url, **caller.raw})
    output.line(f"{config.url}: you are {caller.user_id}, and may {', '.join(caller.scopes)}")
    output.line(f"saved in {config_path()}")
    if config.api_key and _is_readable_on_the_way(config.url):
        output.note("The key crosses the network unencrypted: use https:// for a server on another machine.")


def _read_key(url: str) -> str | None:
    """Return the key for a server; None if the server wants none."""
    try:
        with Client(url, api_key="") as client:
            client.me()
    except KeyRefused:
        if not sys.stdin.isatty():
            return check_key(sys.stdin.readline())
        return check_key(click.prompt(f"key for {url}", hide_input=True, err=True))
    return None


def _is_readable_on_the_way(url: str) -> bool:
    """Return True for an unencrypted URL of another machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return parts.scheme == "http" and not is_loopback


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the script that completes commands, options, jobs and documents in a shell.

    \b
    bash  echo 'eval "$(ragq completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(ragq completion zsh)"' >> ~/.zshrc
    fish  ragq completion fish > ~/.config/fish/completions/ragq.fish
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"{shell} is not supported")
    click.echo(script(click.get_current_context().find_root().command, {}, "ragq", "_RAGQ_COMPLETE").source())
