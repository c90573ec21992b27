"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from attattr_batch.runtime.driver import Progress, Reporter
from attattr_batch.runtime.metrics import MetricsFile

log = logging.getLogger(__name__)

_LINE_EVERY_S = 15.0


def stderr_console() -> Console:
    """A console on stderr, for those who have none yet."""
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
    """One log line every quarter of a minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        finished = progress.committed + progress.quarantined >= progress.total
        if not finished and time.monotonic() - self._last < _LINE_EVERY_S:
            return
        self._last = time.monotonic()
        fields = _fields(progress)
        log.info(
            "%s: %d of %d examples %s %s",
            progress.title,
            progress.committed + progress.quarantined,
            progress.total,
            fields["rate"],
            fields["failed"],
            extra={"facts": {"run": progress.title, **_counts(progress)}},
        )


class _Bars:
    """A bar while a pass is computed; it stays on the screen when the pass ends."""

    def __init__(self, console: Console):
        self._console = console
        self._title = ""
        self._bar: RichProgress | None = None

    def __call__(self, progress: Progress) -> None:
        if self._bar is None or progress.title != self._title:
            self.close()
            self._title, self._bar = progress.title, _bar(self._console)
            self._task = self._bar.add_task(progress.title, total=progress.total, rate="", failed="")
            self._bar.start()
        done = progress.committed + progress.quarantined
        self._bar.update(self._task, completed=done, **_fields(progress))
        if done >= progress.total:
            self.close()

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _counts(progress: Progress) -> dict[str, Any]:
    rate = progress.newly_committed / progress.seconds if progress.newly_committed else None  # null in JSON
    return {
        "examples": progress.total,
        "committed": progress.committed,
        "quarantined": progress.quarantined,
        "examples_per_second": rate,
    }


def _bar(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        console=console,
    )


def _fields(progress: Progress) -> dict[str, Any]:
    rate = progress.newly_committed / progress.seconds if progress.newly_committed else 0.0
    return {
        "rate": f"{rate:.1f}/s" if rate else "",
        "failed": f"{progress.quarantined} quarantined" if progress.quarantined else "",
    }
