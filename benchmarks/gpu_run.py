"""One whole `attattr run` of MNLI's size for the GPU benchmark: made-up rows and model, real commits."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from arithmetic import Shape
from gpu_work import lengths

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("entailment", "neutral", "contradiction")
WORDS = 2000
"""Different words of the made-up rows, each of them one token."""


def make_model(folder: Path, shape: Shape, spread: float) -> Path:
    """Writes a BERT classifier with random weights, and its tokenizer; returns the folder."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{index}" for index in range(WORDS))]
    vocabulary = {word: index for index, word in enumerate(words)}
    BertTokenizer(vocabulary, model_max_length=512).save_pretrained(folder)
    names = dict(enumerate(LABELS))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(1, shape.width // (64 if shape.width >= 256 else 16)),
        intermediate_size=shape.inner,
        id2label=names,
        label2id={name: index for index, name in names.items()},
        initializer_range=spread,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def make_rows(folder: Path, count: int) -> Path:
    """Writes rows of MNLI's lengths as its official dev file; returns the folder."""
    chance = random.Random(0)
    lines = ["sentence1\tsentence2\tgold_label"]
    for row, length in enumerate(lengths(count)):
        words = [f"word{chance.randrange(WORDS)}" for _ in range(max(2, length - 3))]  # [CLS] and two [SEP]
        premise = max(1, 2 * len(words) // 3)
        texts = " ".join(words[:premise]), " ".join(words[premise:])
        lines.append(f"{texts[0]}\t{texts[1]}\t{LABELS[row % 3]}")
    (folder / "MNLI").mkdir(parents=True)
    (folder / "MNLI" / "dev_matched.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


HALVES = """
workers: [{{count: 2, gpus: {gpus}}}]
executor: ray
"""
"""Two Ray workers that share one GPU."""

_COMMITS = """
SELECT count(*), count(*) FILTER (committed_at > first), coalesce(epoch(max(committed_at) - min(first)), 0)
FROM ledger, (SELECT min(committed_at) AS first FROM ledger)
"""


def time_run(folder: Path, device: str, dtype: str, seconds: float, *, halves: bool) -> dict[str, Any]:
    """Runs `attattr run` on MNLI's dev set in a process of its own, and ends it after that many seconds.

    Args:
        folder: Has `model` and `data`; gets the store.
        device: `cuda` or `cpu`.
        dtype: Arithmetic of the replays.
        seconds: When it is ended, as by Ctrl-C.
        halves: Whether two Ray workers share the GPU; else this is computed in one process.

    Returns:
        `code`, `seconds` in all, `committed` rows, `rate` (rows a second from the first commit to the last;
        None where there is one commit) and `uncertified` (None where it was ended).
    """
    spec, db = folder / "spec.yaml", folder / "runs.duckdb"
    how = HALVES.format(gpus=0.5 if device == "cuda" else 0) if halves else "executor: local\n"
    spec.write_text(
        f"task: mnli\nmodel: {folder / 'model'}\ndata_dir: {folder / 'data'}\ntarget: gold\n"
        f"device: {device}\ndtype: {dtype}\n{how}",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "attattr_batch", "run", str(spec), "--db", str(db), "--format", "json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, errors = process.communicate(timeout=max(5.0, seconds))
    except subprocess.TimeoutExpired:
        process.terminate()  # as Ctrl-C: what is committed stays
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # nothing, where it has ended
    took = time.perf_counter() - started
    sys.stderr.write(errors[-2000:])
    summaries = json.loads(said) if said.strip() else [{}]
    found = {"code": process.returncode, "seconds": took, "uncertified": summaries[0].get("uncertified")}
    return found | _commits(db)


def _commits(db: Path) -> dict[str, Any]:
    from attattr_batch.store.database.connection import Store

    if not db.exists():
        return {"committed": 0, "rate": None}
    with Store(db).read() as connection:
        committed, later, seconds = connection.exec_driver_sql(_COMMITS).one()
    return {"committed": committed, "rate": later / seconds if seconds else None}
