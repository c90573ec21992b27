"""Shows progress: a bar on a terminal, a log line now and then elsewhere, and a file for Prometheus."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from attattr_batch.files import write_file
from attattr_batch.runtime.driver import Progress, Reporter

log = logging.getLogger(__name__)

_LINE_EVERY_S = 15.0
_METRICS_EVERY_S = 5.0


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


class MetricsFile:
    """Progress as a text file for Prometheus: node_exporter's textfile collector, or any scraper of files.

    It has the progress of every pass that it is told of; readers never see half a file.

    A sample is a line such as `attattr_examples_committed{run="sst2"} 640`.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path):
        write_file(path, "")
        self._path = path
        self._passes: dict[str, dict[str, float]] = {}
        self._written = time.monotonic()
        self._failing = False

    def reporter(self, next_reporter: Reporter) -> Reporter:
        """Returns a reporter that notes progress here and hands it on."""

        def report(progress: Progress) -> None:
            self._passes[progress.title] = {
                "attattr_examples": progress.total,
                "attattr_examples_committed": progress.committed,
                "attattr_examples_quarantined": progress.quarantined,
                "attattr_examples_per_second": progress.rate,
                "attattr_last_progress_timestamp_seconds": time.time(),
            }
            if progress.settled >= progress.total or time.monotonic() - self._written >= _METRICS_EVERY_S:
                self._write()
            next_reporter(progress)

        return report

    def _write(self) -> None:
        """Writes the file, or says once that it cannot: a full disk must not end hours of work."""
        lines = []
        for name in next(iter(self._passes.values())):  # Prometheus wants the lines of a metric together
            lines.append(f"# TYPE {name} gauge")
            for run, values in self._passes.items():
                label = run.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
                lines.append(f'{name}{{run="{label}"}} {values[name]:.15g}')
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            os.replace(unfinished, self._path)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("the metrics file cannot be written, %s: %s", self._path, error.strerror)
            self._failing = True
        self._written = time.monotonic()


class _Lines:
    """One log line every quarter of a minute, and one at the end of each pass."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.settled < progress.total and time.monotonic() - self._last < _LINE_EVERY_S:
            return
        self._last = time.monotonic()
        text = f"{progress.title}: {progress.settled} of {progress.total} examples"
        facts = {
            "run": progress.title,
            "examples": progress.total,
            "committed": progress.committed,
            "quarantined": progress.quarantined,
            "examples_per_second": progress.rate,
        }
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
