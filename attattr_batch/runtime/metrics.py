"""Progress as a Prometheus text file, for node_exporter's textfile collector or any scraper of files."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from attattr_batch.errors import UserError
from attattr_batch.runtime.driver import Progress, Reporter

log = logging.getLogger(__name__)

_EVERY_S = 5.0


class MetricsFile:
    """Writes the progress of every pass that it is told of; readers never see half a file.

    A sample is a line such as `attattr_examples_committed{run="sst2"} 640`.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path):
        self._path = path
        self._passes: dict[str, dict[str, float]] = {}
        self._written = 0.0
        self._failing = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as error:
            raise UserError("the metrics file cannot be written", got=f"{path}: {error.strerror}") from error

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
            if progress.settled >= progress.total or time.monotonic() - self._written >= _EVERY_S:
                self._try_to_write()
            next_reporter(progress)

        return report

    def _try_to_write(self) -> None:
        """Writes the file, or says once that it cannot: a full disk must not end hours of work."""
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
        for name in next(iter(self._passes.values()), {}):  # Prometheus wants the lines of a metric together
            lines.append(f"# TYPE {name} gauge")
            for run, values in self._passes.items():
                label = run.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
                lines.append(f'{name}{{run="{label}"}} {values[name]:.15g}')
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(unfinished, self._path)
        self._written = time.monotonic()
