"""Finds the newest complete checkpoint of a watched folder, such as `runs/*/best`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open

from attattr_batch.engine.model_source import weight_files
from attattr_batch.errors import UserError
from attattr_batch.files import user_path

log = logging.getLogger(__name__)

# One of them is enough; a training script writes them after the weights.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")
_INDEX = "model.safetensors.index.json"
_ALLOWED = "a folder with config.json, whole *.safetensors (every shard of an index) and a tokenizer"


def newest_checkpoint(pattern: str) -> Path:
    """The complete match whose weights were written last; one that is still being written is passed over.

    Raises:
        UserError: none is complete.
    """
    where = user_path(pattern)
    anchor = Path(where.anchor)
    found = [path for path in anchor.glob(str(where.relative_to(anchor))) if weight_files(path)]
    passed_over = []
    for folder in sorted(found, key=lambda path: (_last_written(path), path), reverse=True):
        lack = _lack(folder)
        if lack is None:
            return folder
        passed_over.append(f"{folder}: {lack}")
        log.warning("checkpoint %s is not complete, so an earlier one is tried: %s", folder, lack)
    raise UserError(
        "no checkpoint in the watched folder yet",
        got="; ".join([pattern, *passed_over]),
        allowed=_ALLOWED,
        hint="the next tick looks again",
    )


def _lack(folder: Path) -> str | None:
    """What the checkpoint lacks because it is still being written; None if it is complete."""
    if not (folder / "config.json").is_file():
        return "no config.json"
    if not any(any(folder.glob(name)) for name in _TOKENIZER_FILES):
        return "no tokenizer"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and not isinstance(_read_json(path), dict):
            return f"{name} is cut off"
    for path in weight_files(folder):
        try:
            # Opening compares the length of the file with its header; one that is being written is shorter.
            with safe_open(path, "numpy"):
                pass
        except (SafetensorError, FileNotFoundError) as error:
            return f"{path.name}: {error}"
    return _lacking_shard(folder)


def _lacking_shard(folder: Path) -> str | None:
    path = folder / _INDEX
    if not path.is_file():  # written after the last shard
        return f"shards without {_INDEX}" if any("-of-" in one.stem for one in weight_files(folder)) else None
    index = _read_json(path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        return f"{_INDEX} is cut off"
    lacking = sorted({str(name) for name in shards.values() if not (folder / str(name)).is_file()})
    return f"no {lacking[0]}" if lacking else None


def _read_json(path: Path) -> object:
    """The value that the file holds; None if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _last_written(folder: Path) -> int:
    return max(one.stat().st_mtime_ns for one in weight_files(folder))
