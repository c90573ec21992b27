"""Finds the files that ship with the package, in a wheel, an editable install and a bare checkout alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """Returns the folder `jobs`, `schema` or `dashboards`.

    In a wheel they lie in `attattr_batch/_data/`; in a checkout beside the package.

    Raises:
        FileNotFoundError: if the installation lacks the folder.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of attattr_batch lacks its {name!r} folder; reinstall it")


def bundled_folder() -> Path:
    """Returns the folder of the bundled mini-GLUE data and its tiny models."""
    return _PACKAGE / "bundled"
