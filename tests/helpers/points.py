"""Where a process can end itself: points in the package's code, and conditions that it has to live with.

The package knows nothing of this: a child replaces the function at which it is to end.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

Moment = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Point:
    """A call at which a process ends itself.

    Attributes:
        target: `module:name`, as the code that calls it finds it.
        moment: Before the call, some time into it, or when it has returned.
        call: Which call, counted from 1.
        delay_s: For `during`: how long into the call.
        how: The signal.
    """

    target: str
    moment: Moment
    call: int = 1
    delay_s: float = 0.0
    how: int = signal.SIGKILL

    def install(self) -> None:
        """Makes this process end at the point."""
        module, _, path = self.target.partition(":")
        *parents, name = path.split(".")
        owner: Any = importlib.import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        original, calls = getattr(owner, name), itertools.count(1)

        @functools.wraps(original)
        def replaced(*arguments: Any, **options: Any) -> Any:
            if next(calls) != self.call:
                return original(*arguments, **options)
            if self.moment == "before":
                os.kill(os.getpid(), self.how)
            elif self.moment == "during":
                end_soon(self.how, self.delay_s)
            result = original(*arguments, **options)
            if self.moment == "after":
                os.kill(os.getpid(), self.how)
            return result

        setattr(owner, name, replaced)


def end_soon(how: int, delay_s: float) -> None:
    """Has another process signal this one: a thread would have to wait for the interpreter's lock."""
    me = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        time.sleep(delay_s)
        try:
            signal.pidfd_send_signal(me, how)
        finally:
            os._exit(0)
    os.close(me)


@dataclass(frozen=True)
class Conditions:
    """What a command has to cope with.

    Attributes:
        point: Where it ends itself.
        file_bytes: Largest size of a file that it may write; stands in for a full disk.
        clock_jumps: Whether the wall clock jumps ten years back and forth, at every look.
        next_schema: Folder of a schema that is one migration ahead of the package's.
    """

    point: Point | None = None
    file_bytes: int | None = None
    clock_jumps: bool = False
    next_schema: str | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Conditions:
        """The conditions whose `asdict` came through JSON."""
        point = fields["point"]
        return cls(**{**fields, "point": None if point is None else Point(**point)})

    def install(self) -> None:
        """Puts this process under the conditions."""
        if self.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, self.file_bytes))
        if self.clock_jumps:
            _unsettle_the_clock()
        if self.next_schema is not None:
            use_schema(Path(self.next_schema))
        if self.point is not None:
            self.point.install()


class _JumpingClock(datetime):
    """A wall clock that is set back by ten years at every other look."""

    looks = itertools.count()

    @classmethod
    def now(cls, tz: Any = None) -> _JumpingClock:
        moment = datetime.now(tz or UTC) - timedelta(days=3650) * (next(cls.looks) % 2)
        return cls.fromtimestamp(moment.timestamp(), tz)


def _unsettle_the_clock() -> None:
    for name in ("analysis.runner", "runtime.run"):
        importlib.import_module(f"attattr_batch.{name}")
    rooms = ("attattr_batch.store.", "attattr_batch.analysis.")
    ours = [module for name, module in sys.modules.items() if name.startswith(rooms)]
    looking = [module for module in ours if vars(module).get("datetime") is datetime]
    assert {"ingest", "passes", "builds", "runner"} <= {
        module.__name__.rpartition(".")[2] for module in looking
    }
    for module in looking:
        vars(module)["datetime"] = _JumpingClock
    real = time.time
    time.time = lambda: real() - 3.15e8 * (next(_JumpingClock.looks) % 2)


_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{next}"
down_revision = "{head}"


def upgrade() -> None:
    op.create_table("later", sa.Column("run_id", sa.Integer(), nullable=False))
    op.add_column("ledger", sa.Column("host", sa.String()))
"""


def write_next_schema(folder: Path) -> Path:
    """Writes the package's schema with one more migration; returns the folder."""
    from attattr_batch.files import data_folder
    from attattr_batch.store.database.migrate import SCHEMA_VERSION

    later = f"{int(SCHEMA_VERSION) + 1:04}"
    shutil.copytree(data_folder("schema"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = _MIGRATION.format(head=SCHEMA_VERSION, next=later)
    (folder / "versions" / f"{later}_later.py").write_text(text)
    return folder


def use_schema(folder: Path) -> None:
    """Makes this process the program whose schema is in `folder`."""
    from attattr_batch.store.database import migrate

    newest = max((folder / "versions").glob("[0-9]*.py")).name[:4]
    vars(migrate).update(SCHEMA_VERSION=newest, data_folder=lambda name: folder)
