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
    TaskID,
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
    title: str, console: Console | None, *, quiet: bool = False, metrics: MetricsFile | None = None
) -> Iterator[Reporter]:
    """Gives a reporter for one pass.

    Args:
        title: What is being done, for people.
        console: Where a bar may be drawn; must be on stderr. None for log lines.
        quiet: Say nothing.
        metrics: Where progress is noted as well.
    """

    def noted(reporter: Reporter) -> Reporter:
        return reporter if metrics is None else metrics.reporter(title, reporter)

    if quiet:
        yield noted(lambda progress: None)
    elif console is not None and console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=None, rate="", failed="")
            yield noted(lambda progress: _update(bar, task, progress))
    else:
        yield noted(_Lines(title))


class _Lines:
    """One log line every quarter of a minute."""

    def __init__(self, title: str):
        self._title = title
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        finished = progress.done + progress.quarantined >= progress.total
        if not finished and time.monotonic() - self._last < _LINE_EVERY_S:
            return
        self._last = time.monotonic()
        fields = _fields(progress)
        log.info(
            "%s: %d of %d examples %s %s",
            self._title,
            progress.done + progress.quarantined,
            progress.total,
            fields["rate"],
            fields["failed"],
            extra={"facts": {"run": self._title, **_counts(progress)}},
        )


def _counts(progress: Progress) -> dict[str, Any]:
    rate = progress.committed / progress.seconds if progress.committed else None  # null in JSON
    return {
        "examples": progress.total,
        "committed": progress.done,
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


def _update(bar: RichProgress, task: TaskID, progress: Progress) -> None:
    fields = _fields(progress)
    bar.update(task, total=progress.total, completed=progress.done + progress.quarantined, **fields)


def _fields(progress: Progress) -> dict[str, Any]:
    rate = progress.committed / progress.seconds if progress.committed else 0.0
    return {
        "rate": f"{rate:.1f}/s" if rate else "",
        "failed": f"{progress.quarantined} quarantined" if progress.quarantined else "",
    }
