"""The pictures of the page's screens, in each width and colour scheme, and the contact sheets of docs/page.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser

from bench.page_scenes import DOCUMENTS, HANDBOOK, QUESTIONS, SCENES, Scene, Visit, model_answer
from tests.support.openai_stub import Behaviour

WIDTHS = (320, 768, 1280, 1920)
SCHEMES = ("light", "dark")
HEIGHT = 900
PATIENCE_MS = 60_000
CELL_HEIGHT, GAP = 360, 8
BACKGROUND = "#808080"


def prepare(client: httpx.Client) -> None:
    """Fill the lists: documents that can be read and one that cannot, questions, a key, an endpoint."""
    contents = {name: text.encode() for name, text in DOCUMENTS.items()} | {HANDBOOK.name: HANDBOOK.read_bytes()}
    for name, content in contents.items():
        job_id = client.post("/uploads", files={"file": (name, content)}).raise_for_status().json()["job_id"]
        if job_id:
            client.get(f"/result/{job_id}", params={"wait": 60}, timeout=90)
    for question in QUESTIONS:
        client.post("/chat", json={"query": question}).raise_for_status()
    endpoint = {"url": "https://hooks.example/answers-of-the-lighthouse-keepers"}
    client.post("/webhooks", json=endpoint).raise_for_status()


def pictures(
    browser: Browser, client: httpx.Client, model: Behaviour, scene: Scene
) -> Iterator[tuple[int, str, bytes]]:
    """Yield a picture of a scene with its width and scheme, for each width, light and dark."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            with _visit(browser, client, model, width, scheme) as visit:
                scene.enter(visit)
                yield width, scheme, visit.page.screenshot()
                if scene.leave:
                    scene.leave(visit)


@contextmanager
def _visit(browser: Browser, client: httpx.Client, model: Behaviour, width: int, scheme: str) -> Iterator[Visit]:
    viewport = {"width": width, "height": HEIGHT}
    with browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield Visit(page, client, model)
        vars(model).update(vars(Behaviour()) | {"answer": model_answer})


def _scenes(names: Sequence[str]) -> list[Scene]:
    return [scene for scene in SCENES if not names or scene.name in names]


def write_pictures(
    browser: Browser, client: httpx.Client, model: Behaviour, folder: Path, names: Sequence[str] = ()
) -> None:
    """Write a picture of each scene in each width and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in _scenes(names):
        for width, scheme, picture in pictures(browser, client, model, scene):
            _path(folder, scene, width, scheme).write_bytes(picture)


def draw_contact_sheets(folder: Path, target: Path) -> None:
    """Join the pictures of a folder to a sheet for each subject: a row for each scene, its widths light and dark.

    Print the rows. A scene is left out where a picture is missing.
    """
    places = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
    for subject in dict.fromkeys(scene.subject for scene in SCENES):
        files = {
            scene: [_path(folder, scene, *place) for place in places] for scene in SCENES if scene.subject == subject
        }
        drawn = {scene: paths for scene, paths in files.items() if all(one.exists() for one in paths)}
        if drawn:
            _draw_sheet(target / f"page-{subject}.webp", list(drawn.values()))
            for number, scene in enumerate(drawn, start=1):
                print(f"{number}. {scene.shows}")


def _draw_sheet(path: Path, pictures: list[list[Path]]) -> None:
    rows = [[_shrunk(one) for one in paths] for paths in pictures]
    width = sum(cell.width + GAP for cell in rows[0]) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (CELL_HEIGHT + GAP) + GAP), BACKGROUND)
    for number, row in enumerate(rows):
        left = GAP
        for cell in row:
            sheet.paste(cell, (left, GAP + number * (CELL_HEIGHT + GAP)))
            left += cell.width + GAP
    sheet.save(path, quality=60, method=6)
    print(f"{path}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1000:.0f} KB")


def _path(folder: Path, scene: Scene, width: int, scheme: str) -> Path:
    return folder / f"{scene.name}-{width}-{scheme}.png"


def _shrunk(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGB")
    return image.resize((round(image.width * CELL_HEIGHT / image.height), CELL_HEIGHT), Image.Resampling.LANCZOS)
