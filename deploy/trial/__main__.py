"""Walk through docs/deployment.md on real containers, and print each step with its time: `python -m deploy.trial`.

Exits with 1 when a step did not show what it should, and with 2 where there is no Docker.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy.trial.docker import TrialFailed, program, why_not
from deploy.trial.walk import Walk
from settings import ROOT
from tests.support.processes import free_port

STEPS = (
    "base_images",
    "servers_with_nothing_set",
    "commands_beside_them",
    "secrets_are_asked_for",
    "build",
    "everything_with_four_workers",
    "a_key_an_upload_an_answer",
    "a_folder_of_documents",
    "a_model_on_the_host",
    "every_part_is_killed",
    "metrics_in_prometheus",
    "nothing_but_data_can_be_written",
    "a_report_in_a_container",
    "local_embeddings_without_their_packages",
    "the_dashboard_ends",
    "logs_have_no_warning",
    "down_and_up_keep_everything",
    "tls_between_the_containers",
    "an_image_with_local_embeddings_and_traces",
)
# Without these nothing further can be shown.
NEEDED = {"base_images", "servers_with_nothing_set", "build", "everything_with_four_workers"}
PORTS = ("PORT", "VALKEY_PORT", "QDRANT_PORT", "DASHBOARD_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.trial", description="Try the containers on a real Docker.")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="the last step (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave the containers running at the end")
    chosen = parser.parse_args()
    if said := why_not():
        print(said, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="rag-trial-", ignore_cleanup_errors=True) as folder:
        copy = _copy(Path(folder) / "checkout")
        walk = Walk(copy, {name: free_port() for name in PORTS})
        try:
            failed = _run(walk, STEPS[: STEPS.index(chosen.until) + 1])
        finally:
            if not chosen.keep:
                walk.end()
    print(f"{failed} steps failed" if failed else "every step showed what it should")
    return 1 if failed else 0


def _run(walk: Walk, steps: tuple[str, ...]) -> int:
    failed = 0
    for step in steps:
        started, stops = time.monotonic(), False
        try:
            seen = getattr(walk, step)()
        except TrialFailed as error:
            failed, stops = failed + 1, step in NEEDED
            seen = f"FAILED: {error}"
        print(f"{step.replace('_', ' ')} ({time.monotonic() - started:.1f} s): {seen}", flush=True)
        if stops:
            break
    return failed


def _copy(target: Path) -> Path:
    """Copy the files that git knows, and no `.env`: the trial's ports and secrets come from its own environment."""
    names = subprocess.run([program("git"), "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in names.decode().split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    # The containers run as other users than this one, and read the scripts in deploy/.
    for path in (target.parent, *target.parent.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return target


if __name__ == "__main__":
    sys.exit(main())
