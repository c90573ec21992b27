"""A toy task in the official GLUE layout, and a tiny random BERT for it: made here, never downloaded."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer, PreTrainedModel

from attattr_batch.store.database.connection import Store

ATTATTR = str(Path(sys.executable).with_name("attattr"))
"""The installed command."""

NEUTRAL = "film plot cast music story ending the a is was very not really and of it".split()
DECISIVE = ("bad", "good")
"""The words that decide; index = label."""
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NEUTRAL, *DECISIVE]
MAX_TOKENS = 64
N_LAYERS, N_HEADS = 2, 2


def toy_tokenizer(folder: Path) -> None:
    """Writes a WordPiece tokenizer over `VOCABULARY`."""
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    BertTokenizer(vocabulary, model_max_length=MAX_TOKENS).save_pretrained(folder)


def toy_model(
    folder: Path,
    labels: Iterable[str] = ("negative", "positive"),
    kind: type[PreTrainedModel] = BertForSequenceClassification,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Writes a random BERT of 2 layers and 2 heads, with its tokenizer; returns the folder."""
    toy_tokenizer(folder)
    names = dict(enumerate(labels))
    config = BertConfig(
        **{
            "vocab_size": len(VOCABULARY),
            "hidden_size": 16,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": N_HEADS,
            "intermediate_size": 32,
            "max_position_embeddings": MAX_TOKENS,
            "id2label": names,
            "label2id": {name: index for index, name in names.items()},
            "initializer_range": 0.3,
            **settings,
        }
    )
    torch.manual_seed(seed)
    kind(config).save_pretrained(folder)
    return folder


def toy_rows(count: int, seed: int) -> list[tuple[str, int]]:
    """Sentences of 4 to 12 words and their labels: one word, `good` or `bad`, decides."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        label = chance.randint(0, 1)
        words = chance.choices(NEUTRAL, k=chance.randint(3, 11))
        words.insert(chance.randint(0, len(words)), DECISIVE[label])
        rows.append((" ".join(words), label))
    return rows


def write_sst2(folder: Path, **splits: Iterable[tuple[str, int]]) -> Path:
    """Writes rows by split (`train`, `dev`) as official SST-2 files below `folder`; returns the folder."""
    (folder / "SST-2").mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def attattr(
    *arguments: object, env: dict[str, str] | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own; a start costs five seconds where torch is needed."""
    command = [ATTATTR, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)


def rows_of(db: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query on a store."""
    with Store(db).read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query).all()]
