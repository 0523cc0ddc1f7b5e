"""The command `ragq`. One module for each group of commands; each command prints lines, or JSON with `--json`."""

from __future__ import annotations

import click

from ragq.base import package_version
from ragq.cli.ask import ask, open_source
from ragq.cli.documents import ls, rm, upload
from ragq.cli.jobs import cancel, jobs, watch
from ragq.cli.setup import completion, login


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(package_version(), prog_name="ragq")
def main() -> None:
    r"""Ask questions of your own documents, on a server of your own.

    The server is the one of RAGQ_URL, else of `ragq login`, else http://127.0.0.1:8000. Its key, if it wants one, is in
    RAGQ_API_KEY, or saved by `ragq login`.

    \b
    Exit status:
      0    done
      1    a job failed, or a document could not be indexed
      2    wrong usage, or a wrong URL or config file
      3    the documents do not answer the question
      4    the server refused the request
      5    the server cannot be reached, or is too busy
      130  interrupted with Ctrl-C
    """


for command in (ask, open_source, watch, jobs, cancel, upload, ls, rm, login, completion):
    main.add_command(command)
