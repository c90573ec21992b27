"""Progress as a Prometheus text file, for node_exporter's textfile collector or any scraper of files."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path

from attattr_batch.errors import UserError
from attattr_batch.runtime.driver import Progress, Reporter

log = logging.getLogger(__name__)

_EVERY_S = 5.0

# Name, kind, meaning; the value of each is computed in `_values`, in this order.
_METRICS = (
    ("attattr_examples", "gauge", "Examples of the pass."),
    ("attattr_examples_committed", "gauge", "Examples committed, now or earlier."),
    ("attattr_examples_quarantined", "gauge", "Examples that failed every attempt."),
    ("attattr_examples_per_second", "gauge", "Examples committed per second since the start."),
    ("attattr_last_progress_timestamp_seconds", "gauge", "When the driver last reported."),
)


class MetricsFile:
    """Writes the progress of every pass it is told of; readers never see half a file.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path):
        self._path = path
        self._passes: dict[str, tuple[Progress, float]] = {}
        self._written = 0.0
        self._failing = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as error:
            raise UserError("the metrics file cannot be written", got=f"{path}: {error.strerror}") from error

    def reporter(self, next_reporter: Reporter) -> Reporter:
        """A reporter that notes progress here and hands it on."""

        def report(progress: Progress) -> None:
            self._passes[progress.title] = (replace(progress), time.time())
            finished = progress.committed + progress.quarantined >= progress.total
            if finished or time.monotonic() - self._written >= _EVERY_S:
                self._try_to_write()
            next_reporter(progress)

        return report

    def _try_to_write(self) -> None:
        """A disk that is full, or gone, must not end hours of work; it is said once."""
        try:
            self._write()
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("the metrics file cannot be written, %s: %s", self._path, error.strerror)
            self._failing = True
            self._written = time.monotonic()

    def _write(self) -> None:
        lines = []
        for position, (name, kind, meaning) in enumerate(_METRICS):
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            for run, (progress, told) in self._passes.items():
                value = _values(progress, told)[position]
                lines.append(f'{name}{{run="{_escaped(run)}"}} {value:.15g}')
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(unfinished, self._path)
        self._written = time.monotonic()


def _values(progress: Progress, told: float) -> tuple[float, ...]:
    rate = progress.newly_committed / progress.seconds if progress.newly_committed else 0.0
    return (progress.total, progress.committed, progress.quarantined, rate, told)


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
