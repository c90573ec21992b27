"""Opens data of the user's own: files and folders here, and sets on the Hugging Face hub, by `datasets`.

`datasets` 5 never runs code from a data repository (it refuses dataset scripts); nothing here asks it to.
It honours HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE. Importing this module imports `datasets`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its HTTP client's, whichever that is

from attattr_batch.data.text_files import Table, read_text_file
from attattr_batch.errors import UserError, did_you_mean
from attattr_batch.files import user_path

# Only the hub is asked, and only about the data: no download counter on another host, no dataset viewer.
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
datasets.config.USE_PARQUET_EXPORT = False

# What `datasets` raises for a set it cannot find, reach or parse. HfHubHTTPError and ConnectionError are
# OSErrors, ArrowInvalid and HFValidationError ValueErrors; a refused dataset script is a RuntimeError.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError)

# `datasets` reads CSV with pandas, which would take the texts "NA", "None" and "null" for missing values.
_CSV_OPTIONS = {"keep_default_na": False, "na_values": [""]}
_READERS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_TEXT_FILES = (".tsv", ".csv")
_SUFFIXES = (*_TEXT_FILES, *_READERS)
_TEXTS = ("string", "large_string", "string_view")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def open_table(
    name: str, config: str | None, revision: str | None, split: str, needed: Sequence[str]
) -> Table:
    """Opens a local file, a local folder or a hub set.

    A single file is one split, whatever `split` says; elsewhere `dev` also finds `validation`.
    Local data is read into memory and leaves nothing in the cache of `datasets`.

    Args:
        name: Path or hub id.
        config: Configuration of a set that has several.
        revision: Revision of a hub set.
        split: Split of a folder or hub set.
        needed: Columns that a text file's rows are reduced to.

    Raises:
        UserError: no such file or set, the hub cannot be reached, it cannot be parsed, or it lacks the split.
    """
    path = user_path(name)
    if path.exists() and revision is not None:
        raise UserError("only a hub set has a `dataset_revision`", got=f"{revision} of {path}")
    if path.is_file():
        if config is not None:
            raise UserError("a single file has no `dataset_config`", got=f"{config} of {path}")
        if path.suffix.lower() in _TEXT_FILES:
            return read_text_file(path, needed)
        return _table(_read_file(path), str(path))
    if path.is_dir():
        return _open_folder(path, config, split)
    if name.startswith((".", "/", "~")) or path.suffix in _SUFFIXES:
        raise UserError("no such data file or folder", got=name, hint="check the path")
    return open_hub(name, config, revision, split)


def open_hub(name: str, config: str | None, revision: str | None, split: str) -> Table:
    """Opens a hub set, from the network or the cache; the commit that was read becomes `revision`.

    Raises:
        UserError: see `open_table`; or offline, the cache holds another commit than the one asked for.
    """
    where = f"{name} ({config})" if config else name
    try:
        builder = datasets.load_dataset_builder(name, config, revision=revision)
        builder.download_and_prepare()
    except _LOAD_ERRORS as error:
        raise _load_error(f"hub data set {where}", error) from error
    commit = builder.hash if _COMMIT.fullmatch(builder.hash or "") else None
    # Without the network `datasets` falls back to the newest cached commit, whatever revision was asked for.
    if revision and _COMMIT.fullmatch(revision) and commit != revision:
        raise UserError(
            f"the cache holds another revision of {where}",
            got=commit or "an unknown revision",
            allowed=revision,
            hint="go online, or ask for the cached revision",
        )
    chosen = pick_split(split, list(builder.info.splits), where)
    return _table(builder.as_dataset(split=chosen), f"{where}, split {chosen}", commit)


def pick_split(wanted: str, available: Sequence[str], where: str) -> str:
    """Returns the name under which a set keeps the split `wanted`; `dev` and `validation` are one.

    Raises:
        UserError: the set has no such split; the message lists those it has.
    """
    for name in (wanted, {"dev": "validation", "validation": "dev"}.get(wanted, wanted)):
        if name in available:
            return name
    listed, hint = ", ".join(available), did_you_mean(wanted, available)
    raise UserError(f"{where} has no such split", got=wanted, allowed=listed, hint=hint)


def _table(rows: datasets.Dataset, source: str, revision: str | None = None) -> Table:
    features = rows.features.items()
    texts = [name for name, one in features if isinstance(one, datasets.Value) and one.dtype in _TEXTS]
    carried = {name: tuple(one.names) for name, one in features if isinstance(one, datasets.ClassLabel)}
    return Table(source, rows.column_names, texts, rows, carried, revision=revision)


def _read_file(path: Path) -> datasets.Dataset:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError("cannot tell the format of the data file", got=path, allowed=", ".join(_SUFFIXES))
    with _reading(f"data file {path}") as cache:
        return datasets.load_dataset(
            reader, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True
        )


def _open_folder(path: Path, config: str | None, split: str) -> Table:
    with _reading(f"data folder {path}") as cache:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            splits = datasets.load_from_disk(str(path), keep_in_memory=True)
        else:
            csv = hasattr(datasets.load_dataset_builder(str(path), config).config, "keep_default_na")
            options = _CSV_OPTIONS if csv else {}
            splits = datasets.load_dataset(str(path), config, cache_dir=cache, keep_in_memory=True, **options)
    if isinstance(splits, datasets.Dataset):  # saved alone
        return _table(splits, str(path))
    chosen = pick_split(split, list(splits), str(path))
    return _table(splits[chosen], f"{path}, split {chosen}")


@contextmanager
def _reading(what: str) -> Iterator[str]:
    """Gives a cache folder for one reading, and turns what `datasets` raises into a UserError."""
    with no_progress_bars(), tempfile.TemporaryDirectory(prefix="attattr-data-") as cache:
        try:
            yield cache
        except _LOAD_ERRORS as error:
            raise _load_error(what, error) from error


def _load_error(what: str, error: Exception) -> UserError:
    # DatasetGenerationError says nothing itself; the parser's complaint is its cause.
    reason = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else error
    hint = "check the name, the path and the network; a set in the cache also opens with HF_HUB_OFFLINE=1"
    return UserError(f"cannot open the {what}", got=f"{type(reason).__name__}: {reason}", hint=hint)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps `datasets` from drawing progress bars, which it also draws into log files."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silent = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not silent:
            enable_progress_bars()
