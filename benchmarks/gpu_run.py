"""One whole `attattr run` of MNLI's size for the GPU benchmark: made-up rows and model, real commits."""

from __future__ import annotations

import json
import random
import shutil
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


def time_run(model: Path, data: Path, db: Path, device: str, dtype: str, seconds: float) -> dict[str, Any]:
    """Runs `attattr run` on MNLI's dev set in a process of its own, and ends it after that many seconds.

    Returns:
        `code`, `seconds` in all, and of the store's own count `committed`, `computing` (seconds) and
        `uncertified` as far as it came.
    """
    command = [sys.executable, "-m", "attattr_batch", "run", "--task", "mnli", "--model", str(model)]
    command += ["--data-dir", str(data), "--device", device, "--dtype", dtype, "--db", str(db)]
    command += ["--executor", "local", "--format", "json", "--target", "gold"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, errors = process.communicate(timeout=max(5.0, seconds))
    except subprocess.TimeoutExpired:
        process.terminate()  # as Ctrl-C: what is committed stays
        said, errors = process.communicate(timeout=60)
    found: dict[str, Any] = {"code": process.returncode, "seconds": time.perf_counter() - started}
    sys.stderr.write(errors[-2000:])
    if said.strip():
        summary = json.loads(said)
        summary = summary[0] if isinstance(summary, list) else summary
        found |= {"committed": summary["committed"], "computing": summary["seconds"]}
        return found | {"uncertified": summary["uncertified"]}
    return found | {"committed": _committed(db), "computing": None, "uncertified": None}


def _committed(db: Path) -> int:
    from attattr_batch.store.database.connection import Store

    if not db.exists():
        return 0
    with Store(db).read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM ledger").scalar_one())


def free(folder: Path) -> None:
    """Deletes what was made for a run."""
    shutil.rmtree(folder, ignore_errors=True)
