"""`attattr dashboard`: the web app."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from attattr_batch.cli.logs import say
from attattr_batch.cli.output import DEFAULT_DB, DbOption, open_store
from attattr_batch.errors import UserError

_HOST = "127.0.0.1"

# Settings of Streamlit. They win over a configuration file, so that none opens the app to the network.
_SETTINGS = {
    "server.address": _HOST,
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "browser.serverAddress": _HOST,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "type",
    "logger.level": "warning",
}


def dashboard(
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 8501,
    db: DbOption = DEFAULT_DB,
) -> None:
    """Open the results in the browser: this machine only, read-only, also while a run writes.

    Example:
        attattr dashboard --db results.duckdb --port 8599
    """
    from attattr_batch.files import data_folder

    with open_store(db).read():
        pass  # raises if the file cannot be shown
    _check_port(port)
    say(f"dashboard of {db}: http://{_HOST}:{port} (Ctrl-C ends it)")
    flags = [f"--{name}={value}" for name, value in {**_SETTINGS, "server.port": port}.items()]
    app = data_folder("dashboards") / "app.py"
    command = [sys.executable, "-m", "streamlit", "run", str(app), *flags]
    os.execve(sys.executable, command, {**os.environ, "ATTATTR_DB": str(db.resolve())})


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError("the port is taken", got=port, hint="give another with --port") from error
