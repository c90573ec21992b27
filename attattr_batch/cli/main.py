"""Entry point: the command table, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from attattr_batch.cli import jobs, schedule
from attattr_batch.cli.compare import diff, tree
from attattr_batch.cli.dashboard import dashboard
from attattr_batch.cli.data import export, merge, snapshot
from attattr_batch.cli.doctor import doctor
from attattr_batch.cli.figures import plot, report
from attattr_batch.cli.finetune import finetune
from attattr_batch.cli.inspect import migrate, rm, runs, sql, status, verify
from attattr_batch.cli.logs import say
from attattr_batch.cli.options import add_commands
from attattr_batch.cli.run import run
from attattr_batch.cli.submit import submit
from attattr_batch.errors import AttattrError

# It would log an interrupt that comes while the store is closed, with a traceback.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

EXIT_PARTLY, EXIT_USAGE, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 70, 130

app = typer.Typer(
    name="attattr",
    help=__import__("attattr_batch").__doc__,
    epilog="Start with `attattr run`: it attributes the bundled data. Then `attattr status`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"attattr-batch {version('attattr-batch')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before a command."""


app.add_typer(jobs.group)
app.add_typer(schedule.group)
add_commands(app, run, status, runs, rm, sql, verify, migrate, tree, diff, plot, report)
add_commands(app, dashboard, export, snapshot, merge, submit, finetune, doctor)


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    _leave(run_command_line(sys.argv[1:]))


def run_command_line(arguments: Sequence[str]) -> int:
    """Runs one command; an exception becomes a message on stderr.

    Returns:
        The exit code: 0 all good, 1 finished but not everything is good, 2 wrong usage or input or a run
        that was given up, 70 a fault of ours, 130 interrupted.
    """
    try:
        code = app(list(arguments), standalone_mode=False) or 0
        sys.stdout.flush()
    except AttattrError as error:
        say(f"error: {error}", level=logging.ERROR)
        code = EXIT_USAGE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except typer.Abort:  # "no" to a question, or nobody there to ask
        say("aborted; nothing was changed")
        code = EXIT_PARTLY
    except BrokenPipeError:  # whoever read our output has ended (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except SystemExit as stop:  # from typer, after shell completion or for a broken pipe
        code = 0 if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or 0)
    except Exception as error:
        code = _show(error)
    if code == EXIT_INTERRUPTED:  # typer turns an interrupt into this code
        kept = "; what is committed is kept, and the same command goes on from there"
        say(f"interrupted{kept if arguments[:1] in (['run'], ['jobs'], ['merge']) else ''}")
    return code


def _show(error: Exception) -> int:
    """Shows a usage error, or a fault of ours with its traceback; returns the exit code."""
    if hasattr(error, "show"):  # one of typer's own
        error.show()
        return int(getattr(error, "exit_code", EXIT_USAGE))
    about = "this is a fault in attattr_batch: please report it with the lines above"
    say(f"{traceback.format_exc()}{about}", level=logging.CRITICAL)
    return EXIT_FAULT


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """Ends the process at once, for with torch loaded DuckDB's bindings print a page of leak reports."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
