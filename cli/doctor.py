"""`python main.py doctor`: check the settings, this machine and every service, and print a sentence for each."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator

from cli import doctor_machine, doctor_queue, doctor_stores
from cli.findings import Finding, Findings, State, checked
from client.valkey import embedded
from observability import commands
from observability.wording import counted
from settings import Settings, without_password


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Print a line for each finding. Returns 1 if anything is wrong, which a warning is not."""
    findings = []
    for finding in examine(settings, models=not options.no_model):
        findings.append(finding)
        if not options.json:
            print(f"{finding.state:<4}  {finding.part:<12}  {finding.sentence}", flush=True)
    wrong = sum(finding.state is State.FAIL for finding in findings)
    warnings = sum(finding.state is State.WARN for finding in findings)
    if options.json:
        listed = [{"part": each.part, "state": each.state, "sentence": each.sentence} for each in findings]
        print(json.dumps({"wrong": wrong, "warnings": warnings, "findings": listed}, indent=2))
    else:
        print(f"{counted(len(findings), 'finding')}: {wrong} wrong, {counted(warnings, 'warning')}")
    return 1 if wrong else 0


def examine(settings: Settings, *, models: bool = True) -> Iterator[Finding]:
    """Yield what is found. `models`: also ask the model provider and the reranker."""
    url = embedded.running_url(settings)
    if url is not None:
        settings = settings.model_copy(update={"valkey_url": url})
    yield from checked("settings", lambda: doctor_machine.check_settings(settings))
    yield from checked("machine", lambda: doctor_machine.check_machine(settings))
    about_queue = list(checked("Valkey", lambda: _check_queue(settings, url)))
    yield from about_queue
    if any(finding.state is State.FAIL for finding in about_queue):
        url = None  # said once
    yield from doctor_stores.check_stores(settings, url, models=models)
    yield from checked("webhooks", lambda: () if url is None else doctor_queue.check_webhooks(settings, url))
    yield from checked("API", lambda: doctor_queue.check_api(settings))


def _check_queue(settings: Settings, url: str | None) -> Findings:
    if url is None:
        return [
            Finding(
                "Valkey",
                State.WARN,
                f"VALKEY_URL is not set, and no service runs on DATA_DIR {settings.data_dir}, so queues and workers "
                f"were not checked: start `{commands.script('main.py')}`",
            )
        ]
    return asyncio.run(doctor_queue.check_valkey(settings, url, shown=without_password(url)))
