"""Lists the licence of everything that is installed with us: `python tools/licences.py --write | --check`.

What the packages say of themselves, in the environment that this runs in. Fails on a licence that would bind
those who only use us (GPL, AGPL) or on none.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "licences.md"
_OURS = "attattr-batch"
_LONG = 100

_TITLE = """# Licences of dependencies

Written by `python tools/licences.py --write` from what the packages say of themselves;
`make check` keeps it up to date.

| package | version | licence | comes with |
|---|---|---|---|
"""


def requirements() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for, by what it is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"attattr": project["dependencies"], **project["optional-dependencies"]}
    return {name: [Requirement(one) for one in wanted] for name, wanted in groups.items()}


def pins() -> dict[str, str]:
    """Versions in constraints.txt, by package."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """Names of the packages that are installed for these requirements on this machine."""
    left, seen = list(wanted), set[tuple[str, frozenset[str]]]()
    while left:
        one = left.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key not in seen and key[0] != _OURS:
            seen.add(key)
            left += _needs(distribution(one.name), one.extras)
    return {name for name, _ in seen}


def _needs(package: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in package.requires or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


def licence(package: Distribution) -> str:
    """What a package says its licence is: its expression, else its classifiers, else its short text."""
    facts = package.metadata
    classified = [
        one.rpartition("::")[2].strip()
        for one in facts.get_all("Classifier") or ()
        if one.startswith("License ::") and "DFSG" not in one
    ]
    stated = (facts.get("License") or "").strip()
    short = stated if "\n" not in stated and len(stated) < _LONG else ""
    return facts.get("License-Expression") or short or ", ".join(classified)


def document() -> str:
    """The document's text.

    Raises:
        SystemExit: a package has no licence, or one that would bind those who use us.
    """
    groups = {name: closure(wanted) for name, wanted in requirements().items()}
    lines = []
    for name in sorted(set().union(*groups.values())):
        package = distribution(name)
        stated = licence(package)
        if not stated or ("GPL" in stated and "LGPL" not in stated):
            raise SystemExit(f"{name}: licence {stated or 'unknown'}")
        group = next(group for group, names in groups.items() if name in names)
        lines.append(f"| {name} | {package.version.partition('+')[0]} | {stated} | {group} |")
    return _TITLE + "\n".join(lines) + "\n"


def main(mode: str) -> None:
    """Writes the document, or fails where it is not up to date."""
    text = document()
    if mode == "--write":
        DOCUMENT.write_text(text, encoding="utf-8")
    elif DOCUMENT.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{DOCUMENT.name} is not up to date: `make docs`")


if __name__ == "__main__":
    main(*sys.argv[1:])
