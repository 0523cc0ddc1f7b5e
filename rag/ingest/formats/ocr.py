"""OCR by the program tesseract, if it is installed: the text of a picture, and where each word stands.

A fork draws the picture and writes it into tesseract's standard input. Both processes have limits of their own, so that
a picture that is slow to draw or to recognize costs its page only.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from rag.text.word_boxes import UNITS, WordBox

OCR_FAILED = "ocr_failed"
# A page of 800 words takes 3 CPU seconds. Drawing and recognizing are limited to this each.
CPU_SECONDS = 20
# The same by the clock. The processes give way to others: at load 45 on two cores a page took two minutes.
WALL_SECONDS = 600.0
# Word F1 on pages of 11 points in three fonts: .98 to .99 at 200 dpi, no more at 300 dpi, for a fifth less time.
DPI = 200
# Larger pictures are made smaller: A3 at 200 dpi has 8 million.
MAX_PIXELS = 16_000_000
# Below this mean confidence of tesseract the words of a page are guesses.
MIN_CONFIDENCE = 50.0
MAX_WORDS = 8_000
_PROGRAM = "tesseract"
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_READ_BYTES = 65_536
_WORD_LEVEL, _PAGE_LEVEL, _COLUMNS = 5, 1, 12
# Languages of other scripts than Latin, by the names that tesseract gives scripts.
_SCRIPTS = {
    "Cyrillic": ("rus", "ukr", "bel", "bul", "srp", "mkd", "kaz", "kir", "mon", "tgk", "tat", "uzb_cyrl"),
    "Greek": ("ell", "grc"),
    "Arabic": ("ara", "fas", "urd", "uig", "pus", "snd", "kur_ara"),
    "Hebrew": ("heb", "yid"),
    "Han": ("chi_sim", "chi_tra"),
    "Japanese": ("jpn",),
    "Korean": ("kor",),
    "Devanagari": ("hin", "mar", "nep", "san"),
    "Bengali": ("ben", "asm"),
    "Thai": ("tha",),
    "Tamil": ("tam",),
    "Telugu": ("tel",),
    "Georgian": ("kat",),
    "Armenian": ("hye",),
}
_SCRIPT_OF = {language: script for script, languages in _SCRIPTS.items() for language in languages}


class Picture(NamedTuple):
    """A picture in grey, one byte for each pixel, row by row."""

    width: int
    height: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class RecognizedText:
    """The text of a picture. It is cleaned: offsets of words are offsets in the stored text of the page."""

    text: str
    words: tuple[WordBox, ...]


class OcrError(Exception):
    """A picture could not be drawn or recognized within the limits."""


def is_installed() -> bool:
    """Return True if pictures can be read here."""
    return hasattr(os, "fork") and shutil.which(_PROGRAM) is not None


class Recognizer:
    """Recognizes the pages of one file. `announce` is called before each page, which may take WALL_SECONDS."""

    def __init__(self, languages: str, announce: Callable[[], None]) -> None:
        self._wanted, self._announce = languages, announce
        self._packs: frozenset[str] | None = None

    @property
    def languages(self) -> list[str]:
        """The wanted languages whose packs are installed; none where tesseract is not."""
        if self._packs is None:
            self._packs = _installed_packs() if is_installed() else frozenset()
        return [language for language in self._wanted.split("+") if language in self._packs]

    def read(self, draw: Callable[[], Picture], *, dpi: int) -> RecognizedText | None:
        """Return the text of a picture; None for a picture without text. `draw` runs in a process of its own.

        Raises OcrError, also if no language is installed.
        """
        languages = self.languages
        if not languages:
            raise OcrError
        can_turn = self._packs is not None and "osd" in self._packs
        self._announce()
        if can_turn and len({_SCRIPT_OF.get(language, "Latin") for language in languages}) > 1:
            languages = _of_script(languages, _run(draw, ["--psm", "0", "-l", "osd"], dpi=dpi))
            self._announce()
        arguments = ["-l", "+".join(languages), "--psm", "1" if can_turn else "3", "-c", "tessedit_create_tsv=1"]
        return _parse(_run(draw, arguments, dpi=dpi))


def _installed_packs() -> frozenset[str]:
    listed = subprocess.run(  # noqa: S603  a constant
        [_PROGRAM, "--list-langs"], capture_output=True, check=False, timeout=WALL_SECONDS
    )
    return frozenset(listed.stdout.decode(errors="replace").split())


def _of_script(languages: list[str], found: str) -> list[str]:
    """Return the languages of the script that tesseract names; all languages if none fits."""
    script = next((line.partition(": ")[2] for line in found.splitlines() if line.startswith("Script: ")), "")
    return [language for language in languages if _SCRIPT_OF.get(language, "Latin") == script] or languages


def _run(draw: Callable[[], Picture], arguments: list[str], *, dpi: int) -> str:
    """Draw a picture in a fork, and return what tesseract writes about it. Raises OcrError."""
    reading, writing = os.pipe()
    try:
        with subprocess.Popen(  # noqa: S603  our own arguments
            [_PROGRAM, "stdin", "stdout", *arguments, "--dpi", str(dpi)],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_THREAD_LIMIT": "1"},  # more threads wait for each other: 99 s instead of 1.2 s
            preexec_fn=_limit_cpu,  # noqa: PLW1509  this process has one thread
        ) as program:
            os.close(reading)
            reading = -1
            artist = _fork_artist(draw, writing)
            os.close(writing)
            writing = -1
            try:
                output = _output(program)
            except BaseException:
                program.kill()
                with suppress(OSError):
                    os.kill(artist, 9)
                raise
            finally:
                _, status = os.waitpid(artist, 0)
    finally:
        for end in (reading, writing):
            if end >= 0:
                os.close(end)
    if status:
        raise OcrError
    return output


def _limit_cpu() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = CPU_SECONDS if hard == resource.RLIM_INFINITY else min(CPU_SECONDS, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _fork_artist(draw: Callable[[], Picture], output: int) -> int:
    """Start a process that writes a picture in the format PGM, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _limit_cpu()
        width, height, pixels = draw()
        view = memoryview(b"P5\n%d %d\n255\n" % (width, height) + pixels)
        while view:
            view = view[os.write(output, view) :]
        code = 0
    finally:
        os._exit(code)


def _output(program: subprocess.Popen[bytes]) -> str:
    """Return what the program writes until it closes its output. Raises OcrError."""
    if program.stdout is None:
        raise OcrError
    data = bytearray()
    deadline = time.monotonic() + WALL_SECONDS
    while select.select([program.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(program.stdout.fileno(), _READ_BYTES)
        if not part:
            if program.wait() == 0:
                return data.decode(errors="replace")
            break
        data += part
        if len(data) > _MAX_OUTPUT_BYTES:
            break
    raise OcrError


def _parse(table: str) -> RecognizedText | None:
    """Return the text of tesseract's table of words. Words of a line are joined by spaces, lines by line feeds."""
    from rag.ingest.formats.blocks import clean_text

    text, words, confidence = "", list[WordBox](), 0.0
    before = ("", "", "")
    for place, width, height, box, sure, raw in _rows(table):
        word = "".join(clean_text(raw).split())
        if not word or len(words) == MAX_WORDS:
            continue
        text += _gap(before, place, text[-1:], word) if text else ""
        edges = _edges(box, width, height)
        words.append(WordBox(len(text), len(text) + len(word), *edges))
        text += word
        confidence += sure
        before = place
    if not words or confidence < MIN_CONFIDENCE * len(words):
        return None
    return RecognizedText(text, tuple(words))


_Row = tuple[tuple[str, str, str], int, int, tuple[int, int, int, int], float, str]


def _rows(table: str) -> Iterator[_Row]:
    """Yield of each word: its block, paragraph and line, the size of the page, its box, its confidence, the word."""
    width = height = 1
    for line in table.split("\n")[1:]:
        fields = line.split("\t")
        if len(fields) != _COLUMNS:
            continue
        left, top, wide, high = map(int, fields[6:10])
        if int(fields[0]) == _PAGE_LEVEL:
            width, height = max(wide, 1), max(high, 1)
        elif int(fields[0]) == _WORD_LEVEL:
            place = (fields[2], fields[3], fields[4])
            yield place, width, height, (left, top, left + wide, top + high), float(fields[10]), fields[11]


def _gap(before: tuple[str, str, str], place: tuple[str, str, str], last: str, word: str) -> str:
    if before[:2] != place[:2]:
        return "\n\n"
    if before != place:
        return "\n"
    return "" if _is_unspaced(last) and _is_unspaced(word[0]) else " "


def _is_unspaced(char: str) -> bool:
    """Return True for a character of Chinese or Japanese, which tesseract returns as words."""
    return "\u2e80" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\uff00" <= char <= "\uffef"


def _edges(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (
        min(max(value, 0) * UNITS // size, UNITS) for value, size in zip(box, (width, height) * 2, strict=True)
    )
    return left, top, right, bottom
