"""What `index.py` prints: one progress bar for all files, or plain lines, then what was stored and what failed."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from errors import AppError, DocumentError
from observability.wording import counted
from schemas import Indexed, Progress

# Where there is no terminal, a file that takes longer gets a line this often.
LINE_SECONDS = 30.0
# The time left is told after this long: the first files say little.
_MIN_SECONDS = 5.0
# What a file costs beside its bytes, in bytes: so a thousand small files count for more than their size.
_FILE_BYTES = 50_000
# More failed files are counted by reason in the last line; all are listed before it.
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Failure:
    path: Path
    reason: str
    detail: str
    # How the file is named in the last line.
    said: str


class IndexingReport:
    """Shows how far the indexing of files is, in one bar on a terminal and in plain lines elsewhere."""

    def __init__(self, files: Sequence[Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        # The weight of the files before each file, and last that of all files.
        self._before = [0, *accumulate(_FILE_BYTES + _size(file) for file in files)]
        self._clock = clock
        self._began = self._line_at = clock()
        self._number = self._pages = self._copies = self._unchanged = 0
        self._indexed: list[Indexed] = []
        self._failed: list[_Failure] = []
        self._bar: tqdm[NoReturn] | None = None
        if sys.stderr.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            self._bar = tqdm(total=self._before[-1], bar_format=form, file=sys.stderr, dynamic_ncols=True, smoothing=0)

    @property
    def ended(self) -> int:
        """The number of files that are done, or have failed."""
        return len(self._indexed) + self._copies + self._unchanged + len(self._failed)

    def begin(self, number: int) -> None:
        """A file begins; files are counted from 1."""
        self._number, self._line_at = number, self._clock()
        self._show(0, None)

    def progress(self, progress: Progress) -> None:
        """Pages of the file are done."""
        if progress.total is not None and progress.done is not None:
            self._show(progress.done, progress.total)

    def stored(self, indexed: Indexed) -> None:
        """The file is indexed."""
        self._indexed.append(indexed)
        self._pages += indexed.pages
        self._end(counted(indexed.pages, "page"))

    def copied(self) -> None:
        """The file is a copy of one that this run has indexed."""
        self._copies += 1
        self._end("a copy")

    def unchanged(self) -> None:
        """The file was indexed before."""
        self._unchanged += 1
        self._end("indexed already")

    def failed(self, error: AppError) -> None:
        """The file could not be indexed."""
        path = self._files[self._number - 1]
        reason = getattr(error, "reason", None) or error.title.lower()
        said = f"{reason}: {error.detail}" if isinstance(error, DocumentError) else error.detail
        self._failed.append(_Failure(path, reason, error.detail, said))
        self._end(f"failed: {said}")

    def close(self) -> None:
        """Remove the bar, and list the files that failed by reason."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        by_reason: dict[str, list[_Failure]] = defaultdict(list)
        for failure in self._failed:
            by_reason[failure.reason].append(failure)
        for reason, failures in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
            print(f"{counted(len(failures), 'file')} failed, {reason}:", file=sys.stderr)
            for failure in failures:
                print(f"  {failure.path}: {failure.detail}", file=sys.stderr)

    def summary(self) -> str:
        """Return one line: files, pages and chunks stored, files left out, and the failed files."""
        if not self.ended:
            return "no document found" if not self._files else "no file is done"
        chunks = sum(indexed.chunks for indexed in self._indexed)
        files = counted(len(self._indexed), "file")
        parts = [f"{files}, {counted(self._pages, 'page')}, {counted(chunks, 'chunk')} stored"]
        if self._copies:
            parts.append(f"{counted(self._copies, 'copy', 'copies')} left out")
        if self._unchanged:
            parts.append(f"{self._unchanged} indexed already")
        if self._failed:
            parts.append(f"{len(self._failed)} failed: {self._reasons()}")
        return "; ".join(parts)

    @property
    def has_failed(self) -> bool:
        """True if a file failed, or there was none."""
        return bool(self._failed) or not self._files

    def _reasons(self) -> str:
        if len(self._failed) <= MAX_NAMED:
            return "; ".join(f"{failure.path.name} ({failure.said})" for failure in self._failed)
        counts = Counter(failure.reason for failure in self._failed)
        return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())

    def _show(self, done: int, total: int | None) -> None:
        share = min(done / total, 1.0) if total else 0.0
        before, after = self._before[self._number - 1 : self._number + 1]
        weight = before + share * (after - before)
        if self._bar is not None:
            pages, failed = counted(self._pages + done, "page"), len(self._failed)
            self._bar.set_description_str(f"[{self._number}/{len(self._files)}]", refresh=False)
            name = self._files[self._number - 1].name
            self._bar.set_postfix_str(", ".join([pages, *[f"{failed} failed"] * (failed > 0), name]), refresh=False)
            self._bar.update(int(weight) - self._bar.n)
            self._bar.refresh()
        elif total and self._clock() - self._line_at >= LINE_SECONDS:
            self._line_at = self._clock()
            self._print(f"{done} of {total} pages", weight)

    def _end(self, outcome: str) -> None:
        weight = self._before[self._number]
        if self._bar is None:
            self._print(outcome, weight)
        else:
            self._bar.update(weight - self._bar.n)

    def _print(self, outcome: str, weight: float) -> None:
        """Print a plain line about the present file."""
        elapsed, whole = self._clock() - self._began, self._before[-1]
        tells = elapsed > _MIN_SECONDS and 0 < weight < whole
        left = f"; {_duration(elapsed * (whole - weight) / weight)} left" if tells else ""
        name = self._files[self._number - 1].name
        print(f"[{self._number}/{len(self._files)}] {name}: {outcome}{left}", file=sys.stderr, flush=True)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return 0


def _duration(seconds: float) -> str:
    """Return a time as people say it: "40 s", "3 min", "2.5 h"."""
    if seconds < 60:  # noqa: PLR2004  a minute
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{round(minutes)} min" if minutes < 60 else f"{minutes / 60:.1f} h"  # noqa: PLR2004  an hour
