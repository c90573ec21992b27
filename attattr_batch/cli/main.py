"""Entry point: the command table, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
from types import FrameType

import typer

from attattr_batch.cli import data, doctor, finetune, inspect, run
from attattr_batch.cli.output import stderr
from attattr_batch.errors import AttattrError

EXIT_USAGE, EXIT_FAULT, EXIT_INTERRUPTED = 2, 70, 130

app = typer.Typer(
    name="attattr",
    help=__import__("attattr_batch").__doc__,
    epilog="Start with `attattr run`: it attributes the bundled data. Then `attattr status`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (run, inspect, data, finetune, doctor):
    module.register(app)


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    code = 0
    try:
        code = app(standalone_mode=False) or 0
    except AttattrError as error:
        stderr.print(f"error: {error}", markup=False, style="red")
        code = EXIT_USAGE
    except KeyboardInterrupt:
        stderr.print("interrupted; what is committed is kept, and the same command goes on from there")
        code = EXIT_INTERRUPTED
    except typer.Exit as stop:
        code = stop.exit_code
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except Exception as error:
        # click's own usage errors know how to show themselves; anything else is a fault of ours.
        if hasattr(error, "show"):
            error.show()
            code = getattr(error, "exit_code", EXIT_USAGE)
        else:
            traceback.print_exc()
            stderr.print("this is a fault in attattr_batch: please report it with the lines above")
            code = EXIT_FAULT
    _leave(code)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """Ends the process at once: with torch loaded, DuckDB's bindings print a page of leak reports at exit."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
