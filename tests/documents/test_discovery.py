"""Which files of a folder are documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from documents.discovery import MAX_NAMED, Discovery, find_documents
from tests.support.pdfs import write_pdf


def names(discovery: Discovery) -> list[str]:
    return [path.name for path in discovery.files]


def reasons(discovery: Discovery) -> dict[str, str]:
    return {path.name: reason for path, reason in discovery.skipped.items()}


def test_a_document_is_recognised_by_its_content_not_its_ending(tmp_path: Path) -> None:
    write_pdf(tmp_path / "report", ["A report without an ending."])
    (tmp_path / "table.csv").write_text("year,revenue\n2022,93\n")
    (tmp_path / "notes.xyz").write_text("Some notes.")
    (tmp_path / "program.txt").write_bytes(b"\x7fELF\x02\x01\x01\x00\x00")
    (tmp_path / "page.pdf").write_text("<html>")
    (tmp_path / "empty.txt").touch()
    discovery = find_documents([tmp_path])
    assert names(discovery) == ["notes.xyz", "report", "table.csv"]
    assert reasons(discovery) == {"program.txt": "not a document", "page.pdf": "not a PDF", "empty.txt": "empty"}


def test_images_are_documents_where_they_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reasons(find_documents([tmp_path])) == {"picture.txt": "an image, and tesseract-ocr is not installed"}
    (tmp_path / "tesseract").write_bytes(b"\0")
    (tmp_path / "tesseract").chmod(0o755)
    assert names(find_documents([tmp_path])) == ["picture.txt"]


def test_hidden_files_and_folders_are_left_out_silently(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]")
    (tmp_path / ".hidden.txt").write_text("Some text.")
    assert find_documents([tmp_path]) == Discovery()
    # A hidden folder that is named itself is searched.
    assert names(find_documents([tmp_path / ".git"])) == ["config"]


def test_a_named_file_is_listed_unread_and_each_file_once(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Some text.")
    (tmp_path / "link.txt").symlink_to(note)
    (tmp_path / "none").write_bytes(b"\x00")
    discovery = find_documents([tmp_path / "none", tmp_path, note, tmp_path / "missing"])
    assert names(discovery) == ["none", "note.txt", "missing"]
    assert reasons(discovery) == {"none": "not a document"}


def test_special_files_are_skipped_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone").symlink_to("missing")
    (tmp_path / "folder").symlink_to(tmp_path)
    discovery = find_documents([tmp_path])
    assert discovery.files == []
    assert reasons(discovery).keys() == {"pipe.pdf", "itself", "gone", "folder"}
    assert reasons(discovery)["folder"] == "a link to a folder"


def test_the_excluded_folder_is_not_searched_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "data" / "files").mkdir(parents=True)
    (tmp_path / "data" / "files" / "copy.txt").write_text("Some text.")
    assert find_documents([tmp_path], exclude=tmp_path / "data") == Discovery()
    assert names(find_documents([tmp_path / "data"], exclude=tmp_path / "data")) == ["copy.txt"]


def test_a_deep_folder_is_searched_to_its_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 1_200)
    for count in range(100, 1_201, 100):
        tmp_path.joinpath(*["d"] * count).mkdir(parents=True)
    note = deep / "note.txt"
    note.write_text("Some text.")
    try:
        assert names(find_documents([tmp_path])) == ["note.txt"]
    finally:  # pytest removes old folders by recursion, which ends a later run with an error at this depth
        note.unlink()
        for folder in (deep, *deep.parents[:1_199]):
            folder.rmdir()


def test_the_first_skipped_files_are_named_and_the_others_are_counted(tmp_path: Path) -> None:
    assert find_documents([tmp_path]).skipped_summary == ""
    for number in range(MAX_NAMED):
        (tmp_path / f"{number}.bin").write_bytes(b"\x00")
    summary = find_documents([tmp_path]).skipped_summary
    assert summary.startswith("5 skipped: 0.bin (not a document), 1.bin (not a document), ")
    assert "more" not in summary
    for number in range(12):
        (tmp_path / f"x{number}.bin").write_bytes(b"\x00")
    assert find_documents([tmp_path]).skipped_summary.endswith("4.bin (not a document), and 12 more")
