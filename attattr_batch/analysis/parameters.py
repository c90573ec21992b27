"""Parameters of jobs, as a job's header declares them.

    -- param NAME: TYPE = DEFAULT; meaning

TYPE is `integer` or `number`, which may be followed by `from MINIMUM`, `to MAXIMUM` or both; `text`; or words
separated by |. A DEFAULT of null allows null.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from attattr_batch.errors import UserError
from attattr_batch.store.database.sqlfile import SqlFile

_DECLARATION = re.compile(
    r"^(?P<type>[\w|]+)(?: from (?P<minimum>[-.\w]+))?(?: to (?P<maximum>[-.\w]+))?"
    r"\s*=\s*(?P<default>[^;]*?)\s*;\s*(?P<meaning>.+)$"
)


@dataclass(frozen=True)
class Parameter:
    """A value that a job's query takes.

    Attributes:
        name: Written `$name` in the query.
        type: `integer`, `number`, `text`, or the allowed words separated by `|`.
        default: Its value when none is given; None stands for SQL's null.
        meaning: What it is for.
        minimum: Smallest value of an integer or number, if there is one.
        maximum: Largest value, if there is one.
    """

    name: str
    type: str
    default: int | float | str | None
    meaning: str
    minimum: float | None = None
    maximum: float | None = None

    @property
    def values(self) -> str:
        """The values it may have, in words."""
        parts = [self.type.replace("|", ", ")]
        parts += [f"from {self.minimum:g}"] if self.minimum is not None else []
        parts += [f"to {self.maximum:g}"] if self.maximum is not None else []
        parts += ["or null"] if self.default is None else []
        return " ".join(parts)

    @property
    def default_text(self) -> str:
        """The default, as `read` takes it."""
        return value_text(self.default)

    def read(self, text: str) -> int | float | str | None:
        """Reads a value from text.

        Raises:
            UserError: the text is not one of the parameter's values.
        """
        if text == "null" and self.default is None:
            return None
        if self.type in ("integer", "number"):
            value = self._number(text)
            if value is not None:
                return value
        elif self.type == "text" or text in self.type.split("|"):
            return text
        raise UserError(f"parameter {self.name!r} has a wrong value", got=text, allowed=self.values)

    def _number(self, text: str) -> int | float | None:
        """The finite number within the limits that the text is, if it is one."""
        try:
            value = int(text) if self.type == "integer" else float(text)
        except ValueError:
            return None
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return value if low <= value <= high and abs(value) < math.inf else None


def value_text(value: object) -> str:
    """A value as `Parameter.read` takes it."""
    return "null" if value is None else str(value)


def declared_parameter(file: SqlFile, name: str, text: str) -> Parameter:
    """The parameter that a header declares.

    Args:
        file: The job's file.
        name: Name of the parameter.
        text: What its declaration says after the name.

    Raises:
        UserError: the declaration cannot be read, or the default is not one of the values.
    """
    match = _DECLARATION.match(text)
    if match is None:
        raise UserError(
            "a parameter's declaration cannot be read",
            got=f"{file.path}: param {name}: {text}",
            allowed="TYPE [from MINIMUM] [to MAXIMUM] = DEFAULT; meaning",
        )
    limits = (_limit(file, name, match, which) for which in ("minimum", "maximum"))
    bare = Parameter(name, match["type"], None, match["meaning"], *limits)
    if bare.type not in ("integer", "number", "text") and "|" not in bare.type:
        raise UserError(
            "a parameter has an unknown type",
            got=f"{file.path}: {bare.type}",
            allowed="integer, number, text, or words separated by |",
        )
    return replace(bare, default=bare.read(match["default"]))


def _limit(file: SqlFile, name: str, match: re.Match[str], which: str) -> float | None:
    if match[which] is None:
        return None
    try:
        limit = float(match[which])
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit) or match["type"] not in ("integer", "number"):
        raise UserError(
            f"a parameter's {which} cannot be used",
            got=f"{file.path}: param {name}: {match[which]}",
            allowed="a finite number, for an integer or number",
        )
    return limit
