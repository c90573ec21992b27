"""SQL files with a header: views, audits and jobs are kept one to a file.

A header is the file's leading `--` comment lines, `-- field: text`; a line that starts with no field
continues the one before. Fields: `name` (equals the file's stem), `description`, and as needed `grain` (what
one row is), `depends` (names of other files that come first) and `column NAME` (what a column means).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from attattr_batch.errors import UserError

_FIELD = re.compile(r"^--\s*(?P<field>(?:column|param) \w+|[a-z_]+):\s*(?P<text>.*)$")


@dataclass(frozen=True)
class SqlFile:
    """One SQL file: its query and what the header says.

    Attributes:
        name: Name of the view, audit or job; equals the file's stem.
        description: What it is for, in a sentence or two.
        query: The SQL below the header, without the closing semicolon.
        fields: Every header field by name, `name` and `description` included.
        path: Where it was read from.
    """

    name: str
    description: str
    query: str
    fields: dict[str, str] = field(repr=False)
    path: Path

    @property
    def depends(self) -> tuple[str, ...]:
        """Names of the files that must come before this one."""
        return tuple(self.fields.get("depends", "").replace(",", " ").split())

    @property
    def columns(self) -> dict[str, str]:
        """Meanings of columns given in the header, by column name."""
        return self._named("column ")

    @property
    def params(self) -> dict[str, str]:
        """Declarations of parameters given in the header, by parameter name."""
        return self._named("param ")

    def _named(self, prefix: str) -> dict[str, str]:
        return {key.removeprefix(prefix): text for key, text in self.fields.items() if key.startswith(prefix)}


def load_file(path: Path) -> SqlFile:
    """Reads one SQL file.

    Raises:
        UserError: the file cannot be read, the header lacks `name` or `description`, the name differs from
            the file's, or no SQL follows.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot read the SQL file", got=f"{path}: {error}", allowed="UTF-8 text") from error
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    fields = _parse_header(lines[:end])
    query = "\n".join(lines[end:]).strip().removesuffix(";").strip()
    for needed in ("name", "description"):
        if not fields.get(needed):
            raise UserError(f"the header lacks `-- {needed}: ...`", got=path)
    if fields["name"] != path.stem:
        raise UserError(
            "the header's name must be the file's", got=f"{path}: {fields['name']}", allowed=path.stem
        )
    if not query:
        raise UserError("no SQL follows the header", got=path)
    return SqlFile(fields["name"], fields["description"], query, fields, path)


def check_folder(folder: Path, kind: str) -> None:
    """Checks that a folder which a person gave holds files of a kind (`jobs`, `audits`).

    Raises:
        UserError: it is no folder, or holds no `*.sql` file.
    """
    if not folder.is_dir() or not any(folder.glob("*.sql")):
        raise UserError(f"no {kind} there", got=folder, allowed="a folder with *.sql files")


def load_folder(folder: Path) -> list[SqlFile]:
    """Reads every `*.sql` file of a folder, ordered so that each comes after those it depends on.

    Raises:
        UserError: a file is not usable, or files depend on each other in a circle.
    """
    return in_order(load_file(path) for path in sorted(folder.glob("*.sql")))


def in_order(given: Iterable[SqlFile]) -> list[SqlFile]:
    """Orders files so that each comes after those it depends on.

    Names in `depends` that none of them has (tables, for example) do not matter for the order.

    Raises:
        UserError: files depend on each other in a circle.
    """
    files = {one.name: one for one in given}
    sorter = TopologicalSorter({name: [d for d in one.depends if d in files] for name, one in files.items()})
    try:
        return [files[name] for name in sorter.static_order()]
    except CycleError as error:
        raise UserError(
            "SQL files depend on each other in a circle", got=" -> ".join(error.args[1])
        ) from error


def _parse_header(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = None
    for line in lines:
        match = _FIELD.match(line)
        if match:
            last = match["field"]
            fields[last] = match["text"].strip()
        elif last is not None:
            fields[last] = f"{fields[last]} {line.removeprefix('--').strip()}".strip()
    return fields


def literal(value: str | None) -> str:
    """A text as SQL writes it, in quotes; for statements that take no parameters. None is an empty text."""
    return "'" + (value or "").replace("'", "''") + "'"
