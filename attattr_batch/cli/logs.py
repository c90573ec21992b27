"""What a person is told on stderr, as text or JSON lines, and the log file."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.logging import RichHandler

from attattr_batch.choices import LogFormat
from attattr_batch.cli.options import replaced
from attattr_batch.cli.output import QuietOption, VerboseOption, stderr
from attattr_batch.errors import UserError

if TYPE_CHECKING:
    from attattr_batch.runtime.driver import Reporter
    from attattr_batch.store.database.connection import Store


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, exception, and the record's `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        """Makes the line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logging(
    *,
    quiet: bool = False,
    verbose: bool = False,
    form: LogFormat = "text",
    file: Path | None = None,
) -> None:
    """Sends the package's log to stderr, and in detail to a file if one is given.

    Raises:
        UserError: the file cannot be opened.
    """
    if quiet or form == "json":  # the libraries read it when they are imported, later
        os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logger = logging.getLogger("attattr_batch")
    for earlier in logger.handlers:
        earlier.close()
    logger.handlers[:] = [_stderr_handler(level, form, verbose=verbose)]
    if file is not None:
        logger.addHandler(_file_handler(file))
    logger.setLevel(min(handler.level for handler in logger.handlers))
    logger.propagate = False


def say(message: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Tells a person something on stderr; as a JSON line with its facts if the log is JSON lines."""
    logger = logging.getLogger("attattr_batch")
    if logger.handlers and isinstance(logger.handlers[0].formatter, JsonLines):
        logger.log(level, message, extra={"facts": facts})
    else:
        stderr.print(message, style="red" if level >= logging.ERROR else None)


def say_unfinished(store: Store, runs: Sequence[str] | None = None) -> None:
    """Says which of the runs (None: of all runs) are not finished, for then the results are not final."""
    from attattr_batch.store.writing.runs import list_runs, resolve_run, unfinished_runs

    with store.read() as connection:
        chosen = list_runs(connection) if runs is None else [resolve_run(connection, run) for run in runs]
        lines = unfinished_runs(connection, [run.run_id for run in chosen])
    for line in lines:
        say(line)


@dataclass(frozen=True)
class Log:
    """What a long command tells while it runs, and where; set up when it is made. Its fields are options."""

    metrics: Annotated[
        Path | None, typer.Option(envvar="ATTATTR_METRICS", help="Progress, as a Prometheus text file.")
    ] = None
    log_format: Annotated[
        LogFormat, typer.Option(envvar="ATTATTR_LOG_FORMAT", help="Form of the log on stderr.")
    ] = "text"
    log_file: Annotated[
        Path | None,
        typer.Option(envvar="ATTATTR_LOG_FILE", help="Also log here, in detail, as JSON lines."),
    ] = None
    quiet: QuietOption = False
    verbose: VerboseOption = False

    def __post_init__(self) -> None:
        set_up_logging(quiet=self.quiet, verbose=self.verbose, form=self.log_format, file=self.log_file)

    def reporter(self) -> AbstractContextManager[Reporter]:
        """Shows progress as a bar on a terminal, as log lines elsewhere, and in the metrics file.

        Raises:
            UserError: the metrics file cannot be written.
        """
        from attattr_batch.runtime.progress import MetricsFile, reporting

        console = stderr if self.log_format == "text" else None
        file = None if self.metrics is None else MetricsFile(self.metrics)
        return reporting(console, quiet=self.quiet, metrics=file)


log_options = replaced(
    "log", inspect.signature(Log, eval_str=True).parameters.values(), lambda values: Log(**values)
)
"""Replaces the parameter `log: Log` of a command by the fields of `Log` as options."""


def _stderr_handler(level: int, form: LogFormat, *, verbose: bool) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonLines())
    elif stderr.is_terminal:  # or log lines and the progress bar overwrite each other
        handler = RichHandler(console=stderr, show_path=False, show_time=verbose, show_level=verbose)
    handler.setLevel(level)
    return handler


def _file_handler(file: Path) -> logging.Handler:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise UserError("the log file cannot be written", got=f"{file}: {error.strerror}") from error
    handler.setFormatter(JsonLines())
    handler.setLevel(logging.DEBUG)
    return handler
