"""The generated documents: `python tools/documents.py --write` (`make docs`) or `--check` (`make check`)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import api_reference
import cli_reference
import jobs_reference
import licences
import spec_reference

import attattr_batch.store.reading.data_dictionary

ROOT = Path(__file__).resolve().parents[1]

DOCUMENTS: dict[str, Callable[[], str]] = {
    "schema/README.md": attattr_batch.store.reading.data_dictionary.dictionary_markdown,
    "jobs/README.md": jobs_reference.reference_markdown,
    "docs/cli.md": cli_reference.reference_markdown,
    "docs/spec.md": spec_reference.reference_markdown,
    "docs/api.md": api_reference.api_markdown,
    "docs/licences.md": licences.licences_markdown,
}


def stale(documents: Mapping[str, Callable[[], str]], root: Path = ROOT) -> list[str]:
    """The documents that differ from what would be written, or are not there."""
    return [
        name
        for name, markdown in documents.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != markdown()
    ]


def write(documents: Mapping[str, Callable[[], str]], root: Path = ROOT) -> None:
    """Writes all documents, once all could be made."""
    for name, text in [(name, markdown()) for name, markdown in documents.items()]:
        (root / name).write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true", help="bring them up to date")
    group.add_argument("--check", action="store_true", help="exit with 1 and name those out of date")
    if parser.parse_args().write:
        write(DOCUMENTS)
        return 0
    names = stale(DOCUMENTS)
    for name in names:
        sys.stderr.write(f"{name} is out of date: run `make docs`\n")
    return 1 if names else 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # with torch loaded, DuckDB's bindings print a page of leak reports at exit
