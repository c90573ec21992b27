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
_JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", _INDEX)
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
    if not any(any(folder.glob(name)) for name in _TOKENIZER_FILES):
        return "no tokenizer"
    index = folder / _INDEX
    weights = set(weight_files(folder))
    if not index.is_file() and any("-of-" in one.stem for one in weights):
        return f"shards without {_INDEX}, which is written after the last of them"
    try:
        for path in (folder / name for name in _JSON_FILES):
            content = json.loads(path.read_bytes()) if path.exists() or path.name == "config.json" else {}
            weights |= {folder / name for name in content.get("weight_map", {}).values()}
        for path in sorted(weights):
            # Opening compares the length of the file with its header; one that is being written is shorter.
            with safe_open(path, "numpy"):
                pass
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, SafetensorError) as error:
        return f"{path.name}: {error}"
    return None


def _last_written(folder: Path) -> int:
    return max(one.stat().st_mtime_ns for one in weight_files(folder))
