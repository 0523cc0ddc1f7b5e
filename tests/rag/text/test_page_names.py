"""The names of pages in answers."""

from __future__ import annotations

from rag.text.page_names import page_name
from tests.support.tables import each


@each(
    "page, label, name",
    [
        (4, "4", "page 4"),
        (4, "2", "page 2 (page 4 of the file)"),
        (6, "iv", "page iv (page 6 of the file)"),
        (9, "A-3", "page A-3 (page 9 of the file)"),
        (9, "12–3", "page 12–3 (page 9 of the file)"),
        (7, " 5b \n", "page 5b (page 7 of the file)"),
        (1, "Cover", "page Cover (page 1 of the file)"),
        (4, "Page 4", "page 4"),
        (4, "p. 2", "page 2 (page 4 of the file)"),
        (4, "0004", "page 4"),
        (4, "", "page 4"),
        (4, " \t", "page 4"),
        (4, "page", "page 4"),
        (4, "0page", "page 4"),
        (4, "[2]", "page 4"),
        (4, "x" * 500, "page 4"),
        (4, "as said [1], and more", "page 4"),
    ],
)
def test_a_page_has_its_printed_label_and_its_place_in_the_file(page: int, label: str, name: str) -> None:
    assert page_name(page, label) == name
