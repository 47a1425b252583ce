"""Progress on stderr: what runs and what is left."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

# On a pipe a line now and then is enough.
_SECONDS_BETWEEN_LINES = 2.0


class Talk:
    """Shows progress; call it with a text and how much of how much is done. A live bar on a terminal, else lines."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._last, self._start = -_SECONDS_BETWEEN_LINES, time.monotonic()
        if self._console.is_terminal and not quiet:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, text: str, done: int, total: int) -> None:
        """Show a step."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
            if text.startswith("fixed before"):
                self._console.print(text, style="dim")
            return
        now = time.monotonic() - self._start
        if now - self._last >= _SECONDS_BETWEEN_LINES or done == total:
            self._last = now
            sys.stderr.write(f"[{now:6.1f} s] {text} ({done}/{total})\n")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
