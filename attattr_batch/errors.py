"""The errors this package raises on purpose.

The command line prints their message and exits with code 2, without a traceback. A `UserError` is something
the person at the keyboard can mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AttattrError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is written for the user."""


class UserError(AttattrError):
    """Wrong usage or input. The message says what is wrong, what was given, what is allowed, what to do."""

    def __init__(self, what: str, *, got: object = None, allowed: object = None, hint: str | None = None):
        lines = [what]
        if got is not None:
            lines.append(f"  got:     {got}")
        if allowed is not None:
            lines.append(f"  allowed: {allowed}")
        if hint is not None:
            lines.append(f"  next:    {hint}")
        super().__init__("\n".join(lines))


class StoreError(UserError):
    """The database file cannot be used as asked: locked, foreign, newer schema, read-only, full disk."""


class ModelGoneError(UserError):
    """The model of a stored run, or its tokenizer, is no longer the one the run was made with."""


class TerminalError(AttattrError):
    """A failure that every other attempt would meet too (broken weights, say), so none is made."""


def did_you_mean(name: str, options: Iterable[str]) -> str | None:
    """Returns "did you mean 'x'?" for the option nearest to `name`, or None when nothing is near."""
    near = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None


def unknown_name(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Builds the error for a name that is not in a closed list, with the nearest match as the hint."""
    known = sorted(options)
    return UserError(f"unknown {kind}", got=name, allowed=", ".join(known), hint=did_you_mean(name, known))
