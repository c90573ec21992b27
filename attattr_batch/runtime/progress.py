"""Progress on stderr: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from attattr_batch.runtime.driver import Progress, Reporter
from attattr_batch.runtime.metrics import MetricsFile

log = logging.getLogger(__name__)

_LINE_EVERY_S = 15.0


def stderr_console() -> Console:
    """Returns a console on stderr, for callers that have none."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def reporting(
    console: Console | None, *, quiet: bool = False, metrics: MetricsFile | None = None
) -> Iterator[Reporter]:
    """Gives a reporter for any number of passes, one after the other.

    Args:
        console: Where a bar may be drawn; must be on stderr. None for log lines.
        quiet: Say nothing.
        metrics: Where progress is noted as well.
    """
    bars = _Bars(console) if console is not None and console.is_terminal and not quiet else None
    report: Reporter = (lambda progress: None) if quiet else bars or _Lines()
    try:
        yield report if metrics is None else metrics.reporter(report)
    finally:
        if bars is not None:
            bars.close()


class _Lines:
    """One log line every quarter of a minute, and one at the end of each pass."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.settled < progress.total and time.monotonic() - self._last < _LINE_EVERY_S:
            return
        self._last = time.monotonic()
        text = f"{progress.title}: {progress.settled} of {progress.total} examples"
        facts = {"run": progress.title, **progress.counts()}
        log.info("%s%s", text, _note(progress), extra={"facts": facts})


class _Bars:
    """A bar for each pass; it stays on the screen when the pass ends."""

    def __init__(self, console: Console):
        self._console = console
        self._title = ""
        self._bar: RichProgress | None = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None or progress.title != self._title:
            self.close()
            columns = (*RichProgress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = RichProgress(*columns, TextColumn("{task.fields[note]}"), console=self._console)
            self._title = progress.title
            self._task = self._bar.add_task(progress.title, total=progress.total, note="")
            self._bar.start()
        self._bar.update(self._task, completed=progress.settled, note=_note(progress))
        if progress.settled >= progress.total:
            self.close()

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _note(progress: Progress) -> str:
    rate = f", {progress.rate:.1f}/s" if progress.rate else ""
    return rate + (f", {progress.quarantined} quarantined" if progress.quarantined else "")
