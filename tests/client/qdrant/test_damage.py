"""Files of the embedded engine are removed, cut and overwritten: the store says so, or is seen to lack points."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.damage import damage_noted
from client.qdrant.embedded import embedded_store
from client.qdrant.shard import ASIDE_PREFIX
from client.qdrant.store import VectorStore
from errors import NothingIndexed, StoreDamaged, StoreRefused
from tests.client.qdrant.test_stores import MINE, WordEmbeddings, chunks, search
from tests.support.processes import PYTHON, ROOT, environment

How = Literal["remove", "empty", "halve", "overwrite"]
Outcome = Literal["damaged", "incomplete", "whole"]
POINTS = 8
NOBODY = 65_534
SEGMENT = "segments/*"

# What the engine makes of each damage is its own affair, and may change with its version. That nobody is left without
# a sentence is ours.
DAMAGES: list[tuple[str, How, Outcome]] = [
    ("complete", "remove", "incomplete"),
    ("edge_config.json", "remove", "whole"),
    ("edge_config.json", "empty", "damaged"),
    ("edge_config.json", "overwrite", "damaged"),
    ("segments", "remove", "damaged"),
    (f"{SEGMENT}/segment.json", "remove", "damaged"),
    (f"{SEGMENT}/segment.json", "halve", "damaged"),
    (f"{SEGMENT}/version.info", "empty", "damaged"),
    (f"{SEGMENT}/version.info", "remove", "damaged"),
    (f"{SEGMENT}/mutable_id_tracker.mappings", "remove", "incomplete"),
    (f"{SEGMENT}/mutable_id_tracker.mappings", "overwrite", "damaged"),
    (f"{SEGMENT}/mutable_id_tracker.versions", "remove", "incomplete"),
    (f"{SEGMENT}/payload_index/config.json", "halve", "damaged"),
    (f"{SEGMENT}/payload_index/*-numeric/tracker.dat", "overwrite", "damaged"),
    (f"{SEGMENT}/payload_index/*-null/is_null/status.dat", "empty", "damaged"),
    (f"{SEGMENT}/payload_index/*-map/page_0.dat", "remove", "whole"),
    (f"{SEGMENT}/payload_storage/tracker.dat", "empty", "damaged"),
    (f"{SEGMENT}/payload_storage/tracker.dat", "overwrite", "damaged"),
    (f"{SEGMENT}/payload_storage/page_0.dat", "remove", "damaged"),
    (f"{SEGMENT}/payload_storage/page_0.dat", "empty", "damaged"),
    (f"{SEGMENT}/payload_storage/page_0.dat", "overwrite", "damaged"),
    (f"{SEGMENT}/vector_storage-bm25/store/config.json", "overwrite", "damaged"),
    (f"{SEGMENT}/vector_storage-bm25/store/page_0.dat", "empty", "damaged"),
    (f"{SEGMENT}/vector_storage-bm25-page/deleted/status.dat", "halve", "damaged"),
    (f"{SEGMENT}/vector_storage-dense/vectors/chunk_0.mmap", "empty", "damaged"),
    (f"{SEGMENT}/vector_storage-dense/vectors/status.dat", "halve", "damaged"),
    ("wal/first-index", "empty", "damaged"),
    ("wal/open-1", "overwrite", "damaged"),
]


def damage(path: Path, how: How) -> None:
    """Remove a file or folder, or change a file as a crash or a bad disk does."""
    if how == "remove":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how == "overwrite":
        noise = random.Random(1).randbytes(min(path.stat().st_size, 100_000))
        with path.open("r+b") as file:
            file.write(noise)
    else:
        os.truncate(path, 0 if how == "empty" else path.stat().st_size // 2)


def open_store(folder: Path, *, owner: bool = False) -> VectorStore:
    return embedded_store(folder, model="m", dense=WordEmbeddings(), bm25=Bm25Encoder(), owner=owner)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that holds POINTS points and is closed."""
    folder = tmp_path_factory.mktemp("intact") / "qdrant"
    store = open_store(folder)
    store.upsert(chunks("u1"))
    store.upsert(chunks("u2"))
    store.close()
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy of the store. The files are sparse: 300 MB by their size, 1 MB on the disk."""
    copy = tmp_path / "qdrant"
    subprocess.run(["cp", "-a", "--sparse=always", str(intact), str(copy)], check=True)
    return copy


def collection(folder: Path) -> Path:
    return next(folder.glob("documents-*"))


def outcome_of(store: VectorStore) -> Outcome:
    """Use a store in every way; return what is wrong with it. Any other error fails the test."""
    actions: list[Callable[[], object]] = [
        store.engine.check,
        lambda: search(store, "museum admission", MINE, 3),
        store.count_by_upload,
        lambda: store.upsert(chunks("u3")),
        store.close,
    ]
    count = 0
    for action in actions:
        try:
            count = count or store.count(MINE)
            action()
        except StoreDamaged:
            return "damaged"
        except NothingIndexed:
            return "incomplete"
    return "whole" if count == POINTS else "incomplete"


@pytest.mark.parametrize("owner", [True, False], ids=["owner", "guest"])
@pytest.mark.parametrize(("pattern", "how", "expected"), DAMAGES, ids=str)
def test_every_damage_is_named_or_seen_by_the_number_of_points(
    folder: Path, pattern: str, how: How, expected: Outcome, owner: bool
) -> None:
    damage(next(collection(folder).glob(pattern)), how)
    store = open_store(folder, owner=owner)
    assert outcome_of(store) == expected
    assert damage_noted(collection(folder)) == (expected == "damaged")
    store.close()
    if expected != "damaged":
        return
    other = open_store(folder)
    with pytest.raises(StoreDamaged, match=r"main\.py audit --repair"):
        other.engine.check()
    place = Path(other.engine.set_aside())
    assert place.name.startswith(ASIDE_PREFIX)
    assert place.is_dir()
    again = open_store(folder, owner=True)
    again.upsert(chunks("u1"))
    assert search(again, "museum admission", MINE, 3)
    again.close()


def test_a_damage_that_an_operation_meets_ends_all_operations_until_the_folder_is_replaced(folder: Path) -> None:
    store = open_store(folder, owner=True)
    assert store.count(MINE) == POINTS
    store.close()
    damage(next(collection(folder).glob(f"{SEGMENT}/payload_storage/page_0.dat")), "empty")
    store = open_store(folder, owner=True)
    assert store.count(MINE) == POINTS  # the engine opens it, and counts without reading
    with pytest.raises(StoreDamaged):
        search(store, "museum", MINE, 3)
    with pytest.raises(StoreDamaged):
        store.count(MINE)
    open_store(folder).engine.set_aside()  # by `main.py audit --repair`, beside the running worker
    with pytest.raises(NothingIndexed):
        search(store, "museum", MINE, 3)
    store.upsert(chunks("u1"))
    assert search(store, "museum", MINE, 3)
    store.close()


def test_a_folder_without_its_marker_is_set_aside_and_not_deleted(folder: Path) -> None:
    (collection(folder) / "complete").unlink()
    store = open_store(folder)
    store.upsert(chunks("u3"))
    store.close()
    [aside] = folder.glob(f"{ASIDE_PREFIX}*")
    assert next(aside.glob(f"{SEGMENT}/segment.json"))


def test_a_file_in_place_of_the_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "qdrant").write_text("not a folder")
    with pytest.raises(StoreRefused, match="check its owner and its permissions"):
        open_store(tmp_path / "qdrant")


@pytest.mark.parametrize("closed", ["qdrant", "collection"])
def test_a_folder_of_another_user_is_refused_with_a_sentence(intact: Path, closed: str) -> None:
    script = (
        "import os, sys; from tests.client.qdrant.test_damage import *\n"
        f"if os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: open_store(Path(sys.argv[1]), owner=True).count(MINE)\n"
        "except StoreRefused as error: print(error.detail)"
    )
    with TemporaryDirectory() as place:
        folder = Path(place) / "qdrant"
        subprocess.run(["cp", "-a", "--sparse=always", str(intact), str(folder)], check=True)
        for path, mode in ((Path(place), 0o755), (folder, 0o777), (collection(folder), 0o777)):
            path.chmod(mode)
        shut = folder if closed == "qdrant" else collection(folder)
        shut.chmod(0o000)
        command = [PYTHON, "-c", script, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        shut.chmod(0o700)
    assert "check its owner and its permissions" in done.stdout, done.stderr
