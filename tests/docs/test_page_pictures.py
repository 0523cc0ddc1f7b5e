"""The index of docs/page.md names each picture of the page, in the order of the contact sheets."""

from __future__ import annotations

import re

from PIL import Image

from bench.page_scenes import SCENES
from bench.page_screens import CELL_HEIGHT, GAP, SCHEMES, WIDTHS
from tests.support.processes import ROOT


def test_each_scene_is_a_row_of_its_sheet_and_a_line_of_the_index() -> None:
    guide = (ROOT / "docs" / "page.md").read_text().partition("## What each picture shows")[2].partition("\n## ")[0]
    sheets = dict(re.findall(r"!\[[^]]*\]\(page-(\w+)\.webp\)(.*?)(?=!\[|\Z)", guide, re.DOTALL))
    assert list(sheets) == list(dict.fromkeys(scene.subject for scene in SCENES))
    for subject, index in sheets.items():
        rows = [scene.shows for scene in SCENES if scene.subject == subject]
        assert re.findall(r"^\d+\. (.+)$", index, re.MULTILINE) == rows
        with Image.open(ROOT / "docs" / f"page-{subject}.webp") as sheet:
            assert sheet.height == len(rows) * (CELL_HEIGHT + GAP) + GAP
            assert sheet.width > sum(WIDTHS) * len(SCHEMES) // 3
        assert (ROOT / "docs" / f"page-{subject}.webp").stat().st_size < 600_000
