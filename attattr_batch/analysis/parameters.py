"""Parameters of jobs, as a job's header declares them.

    -- param NAME: TYPE = DEFAULT; meaning

TYPE is `integer` or `number`, which may be followed by `from MINIMUM`, `to MAXIMUM` or both; `text`; or words
separated by |, for example `disjoint|released`. A DEFAULT of null allows null.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from attattr_batch.errors import UserError
from attattr_batch.store.database.sqlfile import SqlFile

_LIMIT = r"-?\d+(?:\.\d+)?"
_DECLARATION = re.compile(
    rf"(?:(?P<number>integer|number)(?: from (?P<minimum>{_LIMIT}))?(?: to (?P<maximum>{_LIMIT}))?"
    r"|(?P<words>text|\w+(?:\|\w+)+))\s*=\s*(?P<default>[^;]*?)\s*;\s*(?P<meaning>.+)"
)


@dataclass(frozen=True)
class Parameter:
    """A value that a job's query takes.

    Attributes:
        name: Written `$name` in the query.
        type: `integer`, `number`, `text`, or the allowed words separated by `|`.
        default: Its value when none is given; None stands for SQL's null.
        meaning: What it is for.
        minimum: Smallest value of an integer or number.
        maximum: Largest value.
    """

    name: str
    type: str
    default: int | float | str | None
    meaning: str
    minimum: float = -math.inf
    maximum: float = math.inf

    @property
    def values(self) -> str:
        """The values it may have, in words."""
        parts = [self.type.replace("|", ", ")]
        parts += [f"from {self.minimum:g}"] if math.isfinite(self.minimum) else []
        parts += [f"to {self.maximum:g}"] if math.isfinite(self.maximum) else []
        parts += ["or null"] if self.default is None else []
        return " ".join(parts)

    @property
    def allows_none(self) -> bool:
        """Whether the word `none` is one of its values."""
        return "none" in self.type.split("|")

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
            try:
                value = int(text) if self.type == "integer" else float(text)
            except ValueError:
                value = math.nan
            if self.minimum <= value <= self.maximum and abs(value) < math.inf:
                return value
        elif self.type == "text" or text in self.type.split("|"):
            return text
        raise UserError(f"parameter {self.name!r} has a wrong value", got=text, allowed=self.values)


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
    found = _DECLARATION.fullmatch(text)
    if found is None:
        raise UserError(
            "a parameter's declaration cannot be read",
            got=f"{file.path}: param {name}: {text}",
            allowed="TYPE = DEFAULT; meaning, where TYPE is integer, number (either may be followed by from"
            " MINIMUM, to MAXIMUM), text, or words separated by |",
        )
    limits = {key: float(found[key]) for key in ("minimum", "maximum") if found[key] is not None}
    bare = Parameter(name, found["number"] or found["words"], None, found["meaning"], **limits)
    return replace(bare, default=bare.read(found["default"]))
