"""The errors that this package raises on purpose. Any other exception is a fault of ours.

- `UserError`: a person can mend it: a wrong setting, an unknown run, a model that is not there.
- `StoreError`, a `UserError`: the database file cannot be used, so whatever comes next would fail too.
- `ModelGoneError`, a `UserError`: one run cannot have more passes; jobs go on with the other runs.
- `BadFactsError`: computed rows must not be stored. Computed again they may be good, so the driver retries.
- `TerminalError`: every further attempt would fail too, so none is made.

The command line prints the message of each and exits with code 2, without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class AttattrError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is written for the user."""


class UserError(AttattrError):
    """Wrong usage or input. The message says what is wrong, what was given, what is allowed, what to do."""

    def __init__(self, what: str, *, got: object = None, allowed: object = None, hint: str | None = None):
        notes = {"got:": got, "allowed:": allowed, "next:": hint}
        lines = [f"  {name:<8} {note}" for name, note in notes.items() if note is not None]
        super().__init__("\n".join([what, *lines]))


class StoreError(UserError):
    """The database file cannot be used: it is locked, foreign, too new or read-only, or the disk is full."""


class ModelGoneError(UserError):
    """The model of a stored run, or its tokenizer, is no longer the one that the run was made with."""


class BadFactsError(AttattrError):
    """Computed rows that must not be stored; computed again they may be good.

    Attributes:
        example_ids: The examples at fault; empty if they are not known.
    """

    def __init__(self, message: str, example_ids: tuple[int, ...] = ()):
        super().__init__(message + (f" (examples {shown_ids(example_ids)})" if example_ids else ""))
        self.example_ids = example_ids


class TerminalError(AttattrError):
    """A failure that every further attempt would meet too, for example broken weights."""


def shown_ids(example_ids: Sequence[int]) -> str:
    """The first five of the examples, for a message: `3, 4, 8, 9, 12, ...`."""
    return ", ".join([*map(str, example_ids[:5]), *(["..."] if len(example_ids) > 5 else [])])


def one_line(error: object) -> str:
    """An error's text in one line."""
    return " ".join(str(error).split())


def did_you_mean(name: str, options: Iterable[str]) -> str | None:
    """Returns "did you mean 'x'?" for the option nearest to `name`, or None when nothing is near."""
    near = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None


def unknown_name(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Builds the error for a name that is not in a closed list, with the nearest match as the hint."""
    known = sorted(options)
    return UserError(f"unknown {kind}", got=name, allowed=", ".join(known), hint=did_you_mean(name, known))
