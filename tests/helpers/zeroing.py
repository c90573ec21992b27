"""A model's answers with heads removed, without the project's engine: transformers' forward, and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class ZeroedBert:
    """A BERT whose heads can be taken out: their context is set to zero.

    Args:
        folder: The model.
    """

    def __init__(self, folder: Path):
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._width = self._model.config.hidden_size // self._model.config.num_attention_heads

    def predictions(
        self, texts: Sequence[tuple[str, ...]], removed: Iterable[tuple[int, int]], max_length: int = 128
    ) -> list[int]:
        """Predicted output of every text or pair of texts, with these (layer, head) removed."""
        layers = self._model.bert.encoder.layer
        keep = torch.ones(len(layers), self._model.config.hidden_size)
        for layer, head in removed:
            keep[layer, head * self._width : (head + 1) * self._width] = 0

        def zeroing(layer: int) -> Any:
            return lambda module, given, made: (made[0] * keep[layer], *made[1:])

        handles = [
            block.attention.self.register_forward_hook(zeroing(layer)) for layer, block in enumerate(layers)
        ]
        try:
            return [answer for start in range(0, len(texts), 16)
                    for answer in self._answers(texts[start : start + 16], max_length)]  # fmt: skip
        finally:
            for handle in handles:
                handle.remove()

    def _answers(self, texts: Sequence[tuple[str, ...]], max_length: int) -> list[int]:
        parts = [list(part) for part in zip(*texts, strict=True)]
        batch = self._tokenizer(
            *parts, padding=True, truncation="longest_first", max_length=max_length, return_tensors="pt"
        )
        with torch.no_grad():
            return list(self._model(**batch).logits.argmax(1).tolist())
