"""`make bench-stores`: vector stores of many files on the embedded engine: putting files in, listing and searching.

FILES    files of each store, separated by commas; by default 100, 500, 1,000 and 5,000
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.service import offline_environment, service, temporary_folder, wait_for_workers
from settings import ROOT

SIZES = [int(size) for size in os.environ.get("FILES", "100,500,1000,5000").split(",")]
BATCH = 2_000  # the most files of a batch
SEARCHES = 20
PLACES = ("Brindle Point", "Callow Bay", "Dunmere", "Esk Sound", "Farrow Head")


def _write_files(folder: Path) -> None:
    folder.mkdir()
    for number in range(max(SIZES)):
        text = f"The keeper of {PLACES[number % 5]} number {number} counted {number * 37 % 900} boats in a year."
        (folder / f"survey-{number}.txt").write_text(text)


def _pages(client: httpx.Client, path: str, size: int) -> Iterator[dict[str, Any]]:
    """Yield what a list holds, from page to page."""
    after: dict[str, str] = {}
    while True:
        page = client.get(path, params={"limit": size, "order": "asc", **after}).raise_for_status().json()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["last_id"]}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _median_ms(calls: list[Callable[[], object]]) -> float:
    return 1000 * statistics.median(map(_seconds, calls))


def _measure(client: httpx.Client, file_ids: list[str]) -> str:
    """Return the figures of a store with these files."""
    store_id = client.post("/v1/vector_stores", json={}).raise_for_status().json()["id"]
    path = f"/v1/vector_stores/{store_id}"

    def attach() -> None:
        for first in range(0, len(file_ids), BATCH):
            files = [
                {"file_id": file_id, "attributes": {"n": n}}
                for n, file_id in enumerate(file_ids[first : first + BATCH], start=first)
            ]
            client.post(f"{path}/file_batches", json={"files": files}).raise_for_status()

    def search(number: int, **options: object) -> Callable[[], object]:
        body = {"query": f"How many boats did the keeper of {PLACES[number % 5]} number {number} count?"} | options

        def run() -> None:
            found = client.post(f"{path}/search", json=body).raise_for_status().json()
            assert found["data"]

        return run

    attached = _seconds(attach)
    listed = _seconds(lambda: list(_pages(client, f"{path}/files", 100)))
    shown = _median_ms([lambda: client.get(path).raise_for_status()] * SEARCHES)
    searched = _median_ms([search(number) for number in range(SEARCHES)])
    half = {"type": "lt", "key": "n", "value": len(file_ids) // 2}
    filtered = _median_ms([search(number, filters=half) for number in range(SEARCHES)])
    return f"{attached:8.2f} {listed:8.2f} {shown:8.1f} {searched:8.1f} {filtered:8.1f}"


def main() -> None:
    """Measure and print."""
    with temporary_folder() as folder:
        environment = offline_environment(folder / "data", EMBEDDING_MODEL="bm25", LOG_LEVEL="WARNING")
        _write_files(folder / "files")
        command = [sys.executable, "index.py", str(folder / "files")]
        began = time.monotonic()
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        print(f"{max(SIZES)} files of one chunk each, indexed in {time.monotonic() - began:.0f} s")
        with service("all", folder / "service.log", environment) as client:
            wait_for_workers(client, 1)
            file_ids = [file["id"] for file in _pages(client, "/v1/files", 1_000)]
            print("   files   attach s   list s   show ms   search ms   with a filter of half")
            for size in SIZES:
                print(f"{size:8} {_measure(client, file_ids[:size])}", flush=True)


if __name__ == "__main__":
    main()
