"""What docs/troubleshooting.md says of guides for older versions of RQ, tried on the installed RQ."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner
from redis import Redis
from rq import Queue
from rq.cli.cli import main as rq

from tests.support.processes import ROOT

SECTION = (ROOT / "docs/troubleshooting.md").read_text().partition("## Guides for older versions of RQ")[2]
ROWS = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", SECTION, re.MULTILINE)
COMMANDS = [(command, answer) for command, answer, _ in ROWS if command.startswith("rq ")]
IMPORTS = [(line, answer) for line, answer, _ in ROWS if line.startswith("from rq ")]
LAST = SECTION.rpartition("|\n")[2]


def options_of(command: str) -> set[str]:
    """Return the options that a command of RQ takes."""
    names = set()
    for parameter in rq.commands[command].params:
        names |= set(parameter.opts)
    return names


@pytest.mark.parametrize(("command", "answer"), COMMANDS)
def test_old_options_are_refused_as_the_page_says(command: str, answer: str) -> None:
    done = CliRunner().invoke(rq, shlex.split(command)[1:])
    assert done.exit_code == 2
    assert answer in done.output


@pytest.mark.parametrize(("line", "answer"), IMPORTS)
def test_old_imports_fail_as_the_page_says(line: str, answer: str) -> None:
    assert answer == "ImportError"
    with pytest.raises(ImportError):
        exec(line)  # noqa: S102  a line of our own page


def test_old_ways_to_ask_for_a_result_and_a_time_limit_do_what_the_page_says(valkey: Redis) -> None:
    queue = Queue("rag_queries", connection=valkey)
    job = queue.enqueue("nowhere.f", timeout=300)
    assert job.kwargs == {"timeout": 300}
    assert queue.enqueue("nowhere.f", job_timeout=300).timeout == 300
    with pytest.warns(DeprecationWarning, match="return_value"):
        assert job.result is None


def test_what_the_page_puts_in_their_place_exists() -> None:
    assert len(ROWS) == 11
    assert {"--worker-ttl", "--with-scheduler"} <= options_of("worker")
    for command, option in re.findall(r"`(?:rq (\w+) )?(?:[^`]*?)(--[\w-]+)", LAST):
        assert option in options_of(command or "worker"), option
    assert {"suspend", "resume", "requeue"} <= set(rq.commands)
