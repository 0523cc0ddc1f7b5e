"""How far something is: a bar that moves in a terminal, or a line for each stage."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ragq.cli.output import Output, one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressView:
    """Shows one stage at a time. Without a terminal, a line for each stage if `lines` is set, else nothing."""

    def __init__(self, output: Output, *, lines: bool) -> None:
        self._output = output
        self._lines = lines
        self._shown = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Show a stage: `done` of `total`, or that it goes on."""
        if self._output.is_live:
            self._move(one_line(stage), done, total)
        elif self._lines and stage != self._shown:
            self._output.note(stage)
        self._shown = stage

    def clear(self) -> None:
        """Remove the bar from the terminal, so that results can be printed."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _move(self, stage: str, done: int | None, total: int | None) -> None:
        if self._bar is None or self._task is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(stage, total=total)
            self._bar.start()
        elif stage != self._shown:
            self._bar.reset(self._task, total=total)
        self._bar.update(self._task, description=stage, completed=done or 0, total=total)


def _new_bar() -> Progress:
    from rich.console import Console  # 60 ms, for terminals alone
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
